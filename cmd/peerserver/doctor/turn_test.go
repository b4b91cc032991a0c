package doctor_test

import (
	"encoding/json"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
	"github.com/pion/turn/v5"

	"github.com/peerservers/peerserver/cmd/peerserver/doctor"
	"github.com/peerservers/peerserver/node"
	"github.com/peerservers/peerserver/testnet/certs"
)

// TestTURNOverTLS: allocations over TLS are tried too, at the node's own port and
// at that of TURN.
func TestTURNOverTLS(t *testing.T) {
	t.Parallel()
	ca := certs.New(t)
	cert, key := ca.Files(t, certs.Leaf{})
	n := startNode(t, node.Config{TLSCert: cert, TLSKey: key, STUN: "127.0.0.1:0", TURN: true, TURNTLS: "127.0.0.1:0", TURNAllowPrivate: true})
	r := run(t, doctor.Options{URL: "https://" + n.Addr().String(), Roots: ca.Pool()})
	over := 0
	for _, f := range r.Findings {
		if strings.HasPrefix(f.Found, "TURN over TLS") && strings.HasSuffix(f.Found, "relays between two peers, and from here.") {
			over++
		}
	}
	if !r.OK || over != 2 {
		t.Errorf("%v, and TURN over TLS relays at %d ports, want 2", codes(r), over)
	}
}

// TestTURNFull: where TURN is used up it says so, whatever of it that is.
func TestTURNFull(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		cfg  node.Config
		fill bool // all allocations of this address are made
		says string
	}{
		{"allocations", node.Config{}, true, "no room (486)"},
		{"ports", node.Config{TURNPorts: "50500-50500"}, false, "no room (508)"},
		{"the bytes of a day", node.Config{TURNDay: 1}, false, "no room (486)"},
		{"the bytes of a second", node.Config{TURNRate: 1}, false, "relays no more"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.cfg.TURN, c.cfg.STUN = true, "127.0.0.1:0"
			n := startNode(t, c.cfg)
			if c.fill {
				for range 2 { // one may have half of an address's
					fill(t, n, 64)
				}
			}
			r := run(t, doctor.Options{URL: "http://" + n.Addr().String()})
			for _, over := range []string{"TURN over UDP", "TURN over TCP"} {
				if !slices.ContainsFunc(r.Findings, func(f doctor.Finding) bool {
					return f.Code == doctor.TURNFull && strings.HasPrefix(f.Found, over) && strings.Contains(f.Found, c.says)
				}) {
					t.Errorf("nothing says of %s that it has %s", over, c.says)
				}
			}
			if !r.OK {
				t.Errorf("%v", codes(r))
			}
		})
	}
}

// fill makes allocations, as a peer that nobody knows, until the test ends.
func fill(t *testing.T, n *node.Node, count int) {
	t.Helper()
	ws, _, err := websocket.DefaultDialer.Dial("ws://"+n.Addr().String()+"/rxdb", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.Close() })
	var first struct{ YourPeerID string }
	if err := ws.ReadJSON(&first); err != nil {
		t.Fatal(err)
	}
	if err := ws.WriteMessage(websocket.TextMessage, []byte(`{"type":"join","room":"crowded"}`)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ws.ReadMessage(); err != nil {
		t.Fatal(err)
	}
	answer, err := http.Get("http://" + n.Addr().String() + "/v1/ice?door=rxdb&token=crowded&id=" + first.YourPeerID)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var list []struct {
		URLs                 []string
		Username, Credential string
	}
	if err := json.NewDecoder(answer.Body).Decode(&list); err != nil || len(list) != 2 {
		t.Fatalf("%v of %d servers", err, len(list))
	}
	at := strings.TrimPrefix(list[0].URLs[0], "stun:")
	for range count {
		conn, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		client, err := turn.NewClient(&turn.ClientConfig{TURNServerAddr: at, Username: list[1].Username, Password: list[1].Credential, Conn: conn})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			client.Close()
			conn.Close()
		})
		if err := client.Listen(); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Allocate(); err != nil {
			t.Fatal(err)
		}
	}
}
