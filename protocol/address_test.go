package protocol

import (
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

type addressVector struct {
	Address string `json:"address"`
	Same    string `json:"same,omitempty"` // its one spelling
	URL     string `json:"url,omitempty"`
	Node    string `json:"node,omitempty"` // hex
	Peer    string `json:"peer,omitempty"` // hex
	Code    string `json:"code"`
}

const (
	tail      = "/p2p-webrtc-signal/%NODE/p2p/%PEER"
	wssTail   = "/tcp/443/wss" + tail
	longLabel = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" // 63
)

func addressCases() []addressVector {
	node, peer := testNode(1), PeerID(testNode(2))
	filled := strings.NewReplacer("%NODE", node.String(), "%PEER", peer.String()).Replace
	var cases []addressVector
	for _, c := range [][3]string{
		{"/dns4/a.example" + wssTail, "/dns4/a.example" + wssTail, "wss://a.example"},
		{"/dns/a.example" + wssTail, "/dns4/a.example" + wssTail, "wss://a.example"},
		{"/dns6/A.Example" + wssTail, "/dns4/a.example" + wssTail, "wss://a.example"},
		{"/dns4/a.example/tcp/8787/wss" + tail, "/dns4/a.example/tcp/8787/wss" + tail, "wss://a.example:8787"},
		{"/dns4/a.example/tcp/80/wss" + tail, "/dns4/a.example/tcp/80/wss" + tail, "wss://a.example:80"},
		{"/dns4/a.example/tcp/443/ws" + tail, "/dns4/a.example/tcp/443/ws" + tail, "ws://a.example:443"},
		{"/dns4/localhost/tcp/80/ws" + tail, "/dns4/localhost/tcp/80/ws" + tail, "ws://localhost"},
		{"/dns4/localhost/tcp/1/ws" + tail, "/dns4/localhost/tcp/1/ws" + tail, "ws://localhost:1"},
		{"/dns4/my_node.2b.c3/tcp/65535/ws" + tail, "/dns4/my_node.2b.c3/tcp/65535/ws" + tail, "ws://my_node.2b.c3:65535"},
		{"/dns4/" + longLabel + ".example" + wssTail, "/dns4/" + longLabel + ".example" + wssTail, "wss://" + longLabel + ".example"},
		{"/ip4/192.0.2.1/tcp/8787/ws" + tail, "/ip4/192.0.2.1/tcp/8787/ws" + tail, "ws://192.0.2.1:8787"},
		{"/ip4/192.0.2.1" + wssTail, "/ip4/192.0.2.1" + wssTail, "wss://192.0.2.1"},
		{"/ip6/2001:db8::1/tcp/8787/ws" + tail, "/ip6/2001:db8::1/tcp/8787/ws" + tail, "ws://[2001:db8::1]:8787"},
		{"/ip6/2001:DB8:0:0::0:1" + wssTail, "/ip6/2001:db8::1" + wssTail, "wss://[2001:db8::1]"},
		{"/ip6/2001:0db8:0:0:1:0:0:1" + wssTail, "/ip6/2001:db8::1:0:0:1" + wssTail, "wss://[2001:db8::1:0:0:1]"},
		{"/ip6/1:0:2:3:4:5:6:7" + wssTail, "/ip6/1:0:2:3:4:5:6:7" + wssTail, "wss://[1:0:2:3:4:5:6:7]"},
		{"/ip6/64:ff9b::192.0.2.1" + wssTail, "/ip6/64:ff9b::c000:201" + wssTail, "wss://[64:ff9b::c000:201]"},
		{"/ip6/::1/tcp/80/ws" + tail, "/ip6/::1/tcp/80/ws" + tail, "ws://[::1]"},
		{"/ip6/::" + wssTail, "/ip6/::" + wssTail, "wss://[::]"},
	} {
		cases = append(cases, addressVector{
			Address: filled(c[0]), Same: filled(c[1]), URL: c[2],
			Node: hex.EncodeToString(node[:]), Peer: hex.EncodeToString(peer[:]), Code: CodeOK.String(),
		})
	}
	for _, s := range []string{
		"", "/", "a.example", "//////////", "wss://a.example", "dns4/a.example" + wssTail, "/dns4/a.example", "/dns4/a.example/tcp/443/wss",
		"/dns4/a.example/tcp/443/wss/p2p-webrtc-signal/%NODE", "/dns4/a.example" + wssTail + "/", "/dns4/a.example" + wssTail + "/p2p",
		" /dns4/a.example" + wssTail, "/dns4/a.example" + wssTail + " ", "/dns4/a.example" + wssTail + "\n", "/DNS4/a.example" + wssTail,
		"/dns5/a.example" + wssTail, "/dnsaddr/a.example" + wssTail, "/ip/192.0.2.1" + wssTail, "//a.example" + wssTail,
		"/dns4/a.example/udp/443/wss" + tail, "/dns4/a.example/tcp/443/http" + tail, "/dns4/a.example/tcp/443/tls/ws" + tail, "/dns4/a.example/tcp/443/WSS" + tail,
		"/dns4/a.example/tcp/443/wss/p2p-webrtc-star/%NODE/p2p/%PEER", "/dns4/a.example/tcp/443/wss/p2p-webrtc-signal/%NODE/ipfs/%PEER",
		"/dns4/a.example/tcp//wss" + tail, "/dns4/a.example/tcp/0/wss" + tail, "/dns4/a.example/tcp/0443/wss" + tail, "/dns4/a.example/tcp/65536/wss" + tail,
		"/dns4/a.example/tcp/-1/wss" + tail, "/dns4/a.example/tcp/+80/wss" + tail, "/dns4/a.example/tcp/8_0/wss" + tail, "/dns4/a.example/tcp/0x50/wss" + tail,
		"/dns4/a.example/tcp/443 /wss" + tail, "/dns4/a.example/tcp/٤٤٣/wss" + tail, "/dns4/a.example/tcp/99999999999999999999/wss" + tail, "/dns4/a.example/tcp/1e3/wss" + tail,
		"/dns4/" + wssTail, "/dns4/a..example" + wssTail, "/dns4/.example" + wssTail, "/dns4/a.example." + wssTail, "/dns4/a b" + wssTail, "/dns4/a%2eb" + wssTail,
		"/dns4/bücher.example" + wssTail, "/dns4/\u212a.example" + wssTail, "/dns4/a\x00" + wssTail, "/dns4/*.example" + wssTail, "/dns4/a.example:443" + wssTail, "/dns4/u@a.example" + wssTail,
		"/dns4/" + longLabel + "a.example" + wssTail, "/dns4/" + strings.Repeat("a.", 126) + "aa" + wssTail,
		"/dns4/192.0.2.1" + wssTail, "/dns4/a.1" + wssTail, "/dns4/0xc0000201" + wssTail, "/dns4/2001:db8::1" + wssTail, "/dns4/[2001:db8::1]" + wssTail,
		"/ip4/" + wssTail, "/ip4/a.example" + wssTail, "/ip4/192.0.2" + wssTail, "/ip4/192.0.2.256" + wssTail, "/ip4/192.0.02.1" + wssTail, "/ip4/3221225985" + wssTail,
		"/ip4/0x7f.0.0.1" + wssTail, "/ip4/2001:db8::1" + wssTail, "/ip4/192.0.2.1.5" + wssTail, "/ip4/ 192.0.2.1" + wssTail,
		"/ip6/" + wssTail, "/ip6/192.0.2.1" + wssTail, "/ip6/[2001:db8::1]" + wssTail, "/ip6/::ffff:192.0.2.1" + wssTail, "/ip6/::ffff:c000:201" + wssTail,
		"/ip6/fe80::1%eth0" + wssTail, "/ip6/fe80::1%25eth0" + wssTail, "/ip6/2001:db8:::1" + wssTail, "/ip6/1:2:3:4:5:6:7" + wssTail, "/ip6/1:2:3:4:5:6:7:8:9" + wssTail,
		"/ip6/12345::" + wssTail, "/ip6/1::2::3" + wssTail, "/ip6/::192.0.2.01" + wssTail, "/ip6/2001:db8::\t1" + wssTail, "/ip6/1:2:3:4:5:6:7:8::" + wssTail, "/ip6/::1.2.3" + wssTail,
		"/dns4/a.example/tcp/443/wss/p2p-webrtc-signal//p2p/%PEER", "/dns4/a.example/tcp/443/wss/p2p-webrtc-signal/%NODE/p2p/",
		"/dns4/a.example/tcp/443/wss/p2p-webrtc-signal/y%NODE/p2p/%PEER", "/dns4/a.example/tcp/443/wss/p2p-webrtc-signal/%NODE/p2p/%PEERy",
		"/dns4/a.example/tcp/443/wss/p2p-webrtc-signal/%NODE/p2p/" + strings.ToUpper(peer.String()),
		"/dns4/a.example/tcp/443/wss/p2p-webrtc-signal/%NODE/p2p/" + peer.String()[:51] + "l",
		"/dns4/a.example/tcp/443/wss/p2p-webrtc-signal/" + node.String()[:51] + "9/p2p/%PEER", // spare bits that are not zero
	} {
		cases = append(cases, addressVector{Address: filled(s), Code: CodeMalformed.String()})
	}
	for _, s := range []string{strings.Repeat("/", MaxAddress+1), "/dns4/" + strings.Repeat("a", MaxAddress) + filled(wssTail)} {
		cases = append(cases, addressVector{Address: s, Code: CodeTooLarge.String()})
	}
	return cases
}

func TestAddressVectors(t *testing.T) {
	cases := addressCases()
	for _, c := range cases {
		a, err := ParseAddress(c.Address)
		if codeOf(err) != c.Code {
			t.Errorf("%q: %v; want %s", c.Address, err, c.Code)
			continue
		}
		if err != nil {
			if a != (Address{}) {
				t.Errorf("%q: something comes with the error", c.Address)
			}
			continue
		}
		if a.String() != c.Same || a.URL() != c.URL || hex.EncodeToString(a.Node[:]) != c.Node || hex.EncodeToString(a.Peer[:]) != c.Peer {
			t.Errorf("%q is %+v, %s at %s", c.Address, a, a, a.URL())
		}
		if again, err := AddressOf(c.URL, a.Node, a.Peer); err != nil || again != a {
			t.Errorf("%s is %+v, %v", c.URL, again, err)
		}
	}
	checkVectors(t, "addresses", cases)
}

func TestAddressOfRefuses(t *testing.T) {
	for _, url := range []string{"", "a.example", "http://a.example", "wss://", "wss://a.example/", "wss://u@a.example", "wss://a.example:0", "ws://[::1", "ws://a.1"} {
		if a, err := AddressOf(url, NodeID{}, PeerID{}); codeOf(err) != CodeMalformed.String() {
			t.Errorf("%q is %v, %v", url, a, err)
		}
	}
}

func TestAddressText(t *testing.T) {
	want := Address{Host: "a.example", Port: 443, TLS: true, Node: testNode(1), Peer: PeerID(testNode(2))}
	b, err := json.Marshal([]Address{want})
	var got []Address
	if err != nil || json.Unmarshal(b, &got) != nil || !slices.Equal(got, []Address{want}) {
		t.Fatalf("%s is %v, %v", b, got, err)
	}
	if json.Unmarshal([]byte(`["/dns4/a.example"]`), &got) == nil {
		t.Fatal("a piece of an address is one")
	}
}

// FuzzParseAddress: what is accepted has one spelling, and its URL leads back
// to it.
func FuzzParseAddress(f *testing.F) {
	for _, c := range addressCases() {
		f.Add(c.Address)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAddress(s)
		if err != nil {
			return
		}
		again, err := ParseAddress(a.String())
		if err != nil || again != a {
			t.Fatalf("%q is %q, which is %q, %v", s, a, again, err)
		}
		if of, err := AddressOf(a.URL(), a.Node, a.Peer); err != nil || of != a || a.Port == 0 || len(a.String()) > MaxAddress {
			t.Fatalf("%q is at %q, which is %q, %v", s, a.URL(), of, err)
		}
	})
}
