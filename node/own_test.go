package node

import (
	"net"
	"testing"
)

// A URL leads here if it is one of the record's, however it is spelt, or an
// address of this machine with the node's port.
func TestOwnURLs(t *testing.T) {
	n, err := New(Config{Listen: "127.0.0.1:0", NoDHT: true, URLs: []string{"wss://node.example", "ws://203.0.113.7:8787"}})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	_, port, err := net.SplitHostPort(n.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for url, own := range map[string]bool{
		"wss://node.example": true, "wss://node.example:443": true, "wss://NODE.example": true, "ws://203.0.113.7:8787": true,
		"ws://node.example": false, "wss://node.example:8443": false, "wss://other.example": false, "ws://203.0.113.7": false,
		"wss://node.example/": false, "wss://u@node.example": false, "": false, "https://node.example": false,
		"ws://127.0.0.1:" + port: true, "ws://localhost:" + port: true, "ws://127.0.0.1:1": false, "ws://203.0.113.77:" + port: false,
	} {
		if n.isOwn(url, "other.example") != own {
			t.Errorf("%q: own is %v", url, !own)
		}
	}
}
