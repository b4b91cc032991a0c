package peer

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/pion/transport/v4/stdnet"
	"github.com/pion/webrtc/v4"

	"github.com/peerservers/peerserver/testnet"
)

// TestSilentServers: TURN servers that take a connection and say nothing do not
// keep anybody from connecting, nor from leaving.
func TestSilentServers(t *testing.T) {
	t.Parallel()
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close() // it takes what comes, though nobody does
	u, c := udp.LocalAddr().String(), tcp.Addr().String()
	node := iceBetween(t, testnet.Start(t, 1).URL(0), named(3600, "user",
		"stun:"+u, "turn:"+u+"?transport=udp", "turn:"+c+"?transport=tcp", "turns:"+c+"?transport=tcp"))
	enter := func(name string) *someone {
		s := Setting()
		s.SetIncludeLoopbackCandidate(true)
		s.SetInterfaceFilter(func(name string) bool { return name == "lo" })
		s.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
		return join(t, name, Options{Nodes: []string{node.url}, API: webrtc.NewAPI(webrtc.WithSettingEngine(s)), NoRelay: true})
	}
	alice, bob := enter("alice"), enter("bob")
	alice.sees("+bob")
	bob.sees("+alice")
	if p := alice.Peers()[0].Path(); p != PathDirect {
		t.Errorf("the path is %v", p)
	}
	began := time.Now()
	alice.leave()
	if d := time.Since(began); d > 5*answerWithin {
		t.Errorf("to leave took %v", d)
	}
	bob.sees("-alice")
}

// TestSockets: the interfaces are those that there are now, and who waits for a
// server is not left alone with that.
func TestSockets(t *testing.T) {
	t.Parallel()
	n := sockets{new(stdnet.Net)}
	list, err := n.Interfaces()
	if err != nil || len(list) == 0 {
		t.Fatalf("%v, %v", list, err)
	}
	lo, err := n.InterfaceByName(list[0].Name)
	if err != nil || lo.Index != list[0].Index {
		t.Errorf("%v, %v", lo, err)
	}
	if i, err := n.InterfaceByIndex(lo.Index); err != nil || i.Name != lo.Name {
		t.Errorf("%v, %v", i, err)
	}
	for _, c := range []struct{ network, address, want string }{
		{"udp4", "127.0.0.1:3478", "127.0.0.1:3478"}, {"udp6", "[::1]:3478", "[::1]:3478"}, {"udp4", "[::1]:3478", ""}, {"udp4", "127.0.0.1", ""},
	} {
		if a, err := n.ResolveUDPAddr(c.network, c.address); (err == nil) != (c.want != "") || err == nil && a.String() != c.want {
			t.Errorf("%s %s: %v, %v", c.network, c.address, a, err)
		}
	}
	p, err := n.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.ReadFrom(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), net.ErrClosed.Error()) {
		t.Errorf("read: %v", err)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := n.ResolveTCPAddr("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := n.DialTCP("tcp4", nil, a)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), net.ErrClosed.Error()) {
		t.Errorf("read: %v", err)
	}
	// One who has said something may be silent later.
	q, err := n.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	if _, err := q.WriteTo([]byte("x"), q.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := q.ReadFrom(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(answerWithin + 200*time.Millisecond)
	if _, err := q.WriteTo([]byte("x"), q.LocalAddr()); err != nil {
		t.Errorf("it was closed: %v", err)
	}
}
