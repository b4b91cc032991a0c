package testnet

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
	"github.com/pion/turn/v5"
	"github.com/pion/webrtc/v4"

	"github.com/peerservers/peerserver/node"
	"github.com/peerservers/peerserver/testnet/certs"
)

// TestTURNOverTLS allocates over TLS at a node with a certificate: at a port of its
// own, and at the node's, where HTTP is too.
func TestTURNOverTLS(t *testing.T) {
	ca := certs.New(t)
	cert, key := ca.Files(t, certs.Leaf{Names: []string{"node.example.org"}})
	nd, err := node.New(node.Config{
		Listen: "127.0.0.1:0", NoDHT: true, URLs: []string{"wss://node.example.org"}, TLSCert: cert, TLSKey: key, AllowPrivate: true,
		STUN: "127.0.0.1:0", TURN: true, TURNTLS: "127.0.0.1:0", TURNAllowPrivate: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- nd.Serve(ctx) }()
	defer func() {
		end()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	_, port, _ := net.SplitHostPort(nd.Addr().String())
	dialer := &websocket.Dialer{TLSClientConfig: ca.Client("node.example.org")}
	ws, _, err := dialer.DialContext(ctx, "wss://127.0.0.1:"+port+"/rxdb", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	_, first, err := ws.ReadMessage()
	if err != nil {
		t.Fatal(err)
	}
	if err := ws.WriteMessage(websocket.TextMessage, []byte(`{"type":"join","room":"heroes"}`)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ws.ReadMessage(); err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: dialer.TLSClientConfig, DisableKeepAlives: true}}
	q, err := http.NewRequestWithContext(ctx, http.MethodGet,
		"https://127.0.0.1:"+port+"/v1/ice?door=rxdb&token=heroes&id="+field("yourPeerId")(first), nil)
	if err != nil {
		t.Fatal(err)
	}
	q.Host = "node.example.org"
	answer, err := client.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var list []webrtc.ICEServer
	if err := json.NewDecoder(answer.Body).Decode(&list); err != nil {
		t.Fatal(err)
	}
	if kinds(list) != "stun turn turn turns turns" {
		t.Fatalf("%q: %v", kinds(list), list)
	}
	for _, u := range list[1].URLs[2:] {
		at, ok := strings.CutPrefix(u, "turns:node.example.org:")
		if at, _, _ = strings.Cut(at, "?"); !ok {
			t.Fatalf("%q is not at the host that was asked for", u)
		}
		conn, err := (&tls.Dialer{Config: dialer.TLSClientConfig}).DialContext(ctx, "tcp", "127.0.0.1:"+at)
		if err != nil {
			t.Fatalf("%s: %v", u, err)
		}
		allocate(t, conn, list[1])
	}
}

// allocate makes an allocation over a connection.
func allocate(t *testing.T, conn net.Conn, s webrtc.ICEServer) {
	t.Helper()
	defer conn.Close()
	password, _ := s.Credential.(string)
	client, err := turn.NewClient(&turn.ClientConfig{
		TURNServerAddr: conn.RemoteAddr().String(), Conn: turn.NewSTUNConn(conn), Username: s.Username, Password: password,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.Listen(); err != nil {
		t.Fatal(err)
	}
	relayed, err := client.Allocate()
	if err != nil {
		t.Fatalf("at %v: %v", conn.RemoteAddr(), err)
	}
	relayed.Close()
}
