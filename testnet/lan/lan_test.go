//go:build linux

package lan_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/net/ipv4"

	"github.com/peerservers/peerserver/protocol"
)

// TestScenes runs in the namespaces that TestLAN makes.
func TestScenes(t *testing.T) {
	if os.Getenv(inside) == "" {
		return // TestLAN runs it
	}
	t.Run("nodes federate", nodesFederate)
	t.Run("peers without a node", peersWithoutNode)
	t.Run("a peer and a node", peerAndNode)
	t.Run("both at once", bothAtOnce)
	t.Run("beacons that are not believed", notBelieved)
	t.Run("IPv6 alone", ipv6Alone)
}

func node(t *testing.T, machine string) *process {
	t.Helper()
	p := run(t, machine, "node", "--lan", "--dht=false", "--data=", "--admin=", "--json")
	p.await("ready", func(e event) bool { return e.URL != "" })
	return p
}

const app = "the-name-of-the-app"

func join(t *testing.T, machine string, more ...string) *process {
	t.Helper()
	return run(t, machine, append(append([]string{"join", "--json", "--log=debug"}, more...), app)...)
}

// Two nodes that nobody has told of each other carry an offer from a client of
// the one to a client of the other.
func nodesFederate(t *testing.T) {
	node(t, "a")
	node(t, "b")
	alice, bob := dialTracker(t, "a"), dialTracker(t, "b")
	hash := strings.Repeat("h", 20)
	say := func(ws *websocket.Conn, peer, rest string) {
		t.Helper()
		text := fmt.Sprintf(`{"action":"announce","info_hash":%q,"peer_id":%q,"numwant":1%s}`, hash, strings.Repeat(peer, 20), rest)
		if err := ws.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	say(alice, "a", `,"offers":[{"offer_id":"`+strings.Repeat("o", 20)+`","offer":{"type":"offer","sdp":"of alice"}}]`)
	say(bob, "b", ``)
	for {
		var m struct {
			Offer struct{ SDP string } `json:"offer"`
		}
		if err := bob.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		_, b, err := bob.ReadMessage()
		if err != nil {
			t.Fatalf("no offer comes: %v", err)
		}
		if json.Unmarshal(b, &m) == nil && m.Offer.SDP == "of alice" {
			return
		}
	}
}

// dialTracker opens a WebSocket to the node of a machine.
func dialTracker(t *testing.T, machine string) *websocket.Conn {
	t.Helper()
	dialer := websocket.Dialer{NetDialContext: func(ctx context.Context, network, addr string) (c net.Conn, err error) {
		in(t, machine, func() error {
			c, err = new(net.Dialer).DialContext(ctx, network, addr)
			return err
		})
		return c, err
	}}
	ws, answer, err := dialer.DialContext(t.Context(), "ws://127.0.0.1:8787/", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	t.Cleanup(func() { ws.Close() })
	return ws
}

// meet waits until two have met, and has each hear the other.
func meet(a, b *process) {
	a.t.Helper()
	for _, two := range [][2]*process{{a, b}, {b, a}} {
		id := two[1].joined().ID
		two[0].await("peer", func(e event) bool { return e.Event == "peer" && e.ID == id })
	}
	a.say("hello from a")
	b.say("hello from b")
	a.await("message", func(e event) bool { return e.Event == "message" && e.Text == "hello from b" })
	b.await("message", func(e event) bool { return e.Event == "message" && e.Text == "hello from a" })
}

// Two peers meet without a node and without a default route. Nothing that
// passes between them names the app, by its id either.
func peersWithoutNode(t *testing.T) {
	wire := captureAll(t)
	a, b := join(t, "a", "--lan"), join(t, "b", "--lan")
	meet(a, b)
	id := protocol.App("peer", []byte(app), nil)
	if wire.having([]byte("psb1")) < 2 || wire.count() < 30 {
		t.Fatalf("the capture has %d beacons among %d frames", wire.having([]byte("psb1")), wire.count())
	}
	if wire.having([]byte(app)) > 0 || wire.having(id[:]) > 0 {
		t.Error("the app's name or id is on the wire")
	}
	b.input.Close()
	a.await("leave", func(e event) bool { return e.Event == "leave" })
}

// A peer that was told of no node finds one, and by it a peer that is not on
// the LAN.
func peerAndNode(t *testing.T) {
	node(t, "b")
	meet(join(t, "a", "--lan"), join(t, "b", "--node", "ws://127.0.0.1:8787"))
}

// Who is met over a node and on the LAN is one peer.
func bothAtOnce(t *testing.T) {
	node(t, "a")
	a := join(t, "a", "--lan", "--node", "ws://127.0.0.1:8787")
	b := join(t, "b", "--lan", "--node", "ws://10.77.0.1:8787")
	meet(a, b)
	a.say("all is said")
	b.await("message", func(e event) bool { return e.Text == "all is said" })
	if a.count("peer") != 1 || b.count("peer") != 1 || a.count("leave")+b.count("leave") > 0 {
		t.Errorf("%d and %d peers", a.count("peer"), b.count("peer"))
	}
}

// A third machine sends beacons with a signature that is wrong, and some from
// another subnet: nobody connects to it. To one that is in order they do.
func notBelieved(t *testing.T) {
	join(t, "a", "--lan").joined()
	// A key above all others: it is the other side that dials.
	var key ed25519.PrivateKey
	for public := (ed25519.PublicKey{0}); public[0] != 0xff || public[1] < 0xf0; {
		public, key, _ = ed25519.GenerateKey(nil)
	}
	bad, far, good := hostile(t, "10.77.0.3"), hostile(t, "10.88.0.3"), hostile(t, "10.77.0.3")
	beacon := func(port uint16) []byte {
		b, err := protocol.SignBeacon(key, [protocol.BeaconNonce]byte{}, []protocol.AppID{protocol.App("peer", []byte(app), nil)}, port, nil)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	forged := beacon(bad.port)
	forged[len(forged)-1] ^= 1
	for range 3 {
		bad.send(t, forged)
		far.send(t, beacon(far.port))
	}
	good.send(t, beacon(good.port))
	select {
	case <-good.called:
	case <-time.After(patience):
		t.Fatal("a beacon that is in order leads to nothing")
	}
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		select {
		case <-bad.called:
			t.Fatal("a forged beacon is believed")
		case <-far.called:
			t.Fatal("a beacon from another subnet is believed")
		default:
		}
	}
}

// Two peers meet without IPv4. The last scene: it takes the addresses away.
func ipv6Alone(t *testing.T) {
	for _, machine := range []string{"a", "b"} {
		if out, err := exec.CommandContext(t.Context(), "ip", "-n", machine, "-4", "addr", "flush", "dev", "eth0").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	meet(join(t, "a", "--lan"), join(t, "b", "--lan"))
}

// stranger is a port on machine c, and a socket that sends beacons from there.
type stranger struct {
	port   uint16
	packet net.PacketConn
	called chan struct{}
}

func hostile(t *testing.T, ip string) *stranger {
	t.Helper()
	s := &stranger{called: make(chan struct{}, 1)}
	var l net.Listener
	in(t, "c", func() (err error) {
		if l, err = net.Listen("tcp", ip+":0"); err != nil {
			return err
		}
		if s.packet, err = net.ListenPacket("udp4", ip+":0"); err != nil {
			return err
		}
		i, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		return ipv4.NewPacketConn(s.packet).SetMulticastInterface(i)
	})
	at, err := netip.ParseAddrPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s.port = at.Port()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
			select {
			case s.called <- struct{}{}:
			default:
			}
		}
	}()
	t.Cleanup(func() {
		l.Close()
		s.packet.Close()
		<-done
	})
	return s
}

func (s *stranger) send(t *testing.T, b []byte) {
	t.Helper()
	group := net.UDPAddrFromAddrPort(netip.MustParseAddrPort("239.192.152.143:6771"))
	if _, err := s.packet.WriteTo(bytes.Clone(b), group); err != nil {
		t.Fatal(err)
	}
}
