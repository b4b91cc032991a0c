package peer

import (
	"context"
	"crypto/ed25519"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/testnet"
)

// listen is join of one that can be dialled.
func listen(t *testing.T, name string, o Options) *someone {
	t.Helper()
	return enter(t, name, o, func(o Options) (*Room, error) { return Listen(t.Context(), o) })
}

// dial is join of one that dials, and the peer that it has met.
func dialTo(t *testing.T, name, address string, o Options) (*someone, *Peer) {
	t.Helper()
	var p *Peer
	s := enter(t, name, o, func(o Options) (_ *Room, err error) {
		if p, err = Dial(t.Context(), address, o); err != nil {
			return nil, err
		}
		return p.Room(), nil
	})
	return s, p
}

// enter makes a room that is left when the test ends.
func enter(t *testing.T, name string, o Options, make func(Options) (*Room, error)) *someone {
	t.Helper()
	s := &someone{t: t}
	o.Name, o.API = name, loopback()
	o.OnPeer = func(p *Peer) { s.note("+" + p.Name()) }
	o.OnLeave = func(p *Peer) { s.note("-" + p.Name()) }
	o.OnMessage = func(p *Peer, b []byte) { s.note(p.Name() + ": " + string(b)) }
	r, err := make(o)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	s.Room = r
	t.Cleanup(s.leave)
	return s
}

// address is where a listener is, once its node has shown itself.
func (s *someone) address() protocol.Address {
	s.t.Helper()
	list := s.Addresses()
	if len(list) == 0 {
		s.t.Fatal("it has no address")
	}
	return list[0]
}

// TestDial: two dial a third across nodes. They reach it, and not each other.
func TestDial(t *testing.T) {
	nodes := testnet.Start(t, 2)
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	server := listen(t, "server", Options{Nodes: []string{nodes.URL(0)}, Identity: key})
	a := server.address()
	if a.URL() != nodes.URL(0) || a.Peer != server.ID() || a.TLS {
		t.Fatalf("the address is %v", a)
	}
	alice, toServer := dialTo(t, "alice", a.String(), Options{Nodes: []string{"wss://not.looked.at.example"}})
	if toServer.ID() != server.ID() || toServer.Name() != "server" {
		t.Fatalf("alice has dialled %v", toServer.ID())
	}
	bob, _ := dialTo(t, "bob", a.String(), Options{})
	server.sees("+alice", "+bob")
	if err := toServer.Send(t.Context(), []byte("hello")); err != nil {
		t.Fatal(err)
	}
	server.sees("alice: hello")
	server.says("welcome")
	alice.sees("server: welcome")
	bob.sees("server: welcome")
	if err := toServer.Close(); err != nil {
		t.Fatal(err)
	}
	server.sees("-alice")
	for _, s := range []*someone{alice, bob} {
		if list := s.list(); slices.Contains(list, "+alice") || slices.Contains(list, "+bob") {
			t.Errorf("those who dial have met: %q", list)
		}
	}
	if len(alice.Addresses()) > 0 {
		t.Error("one who dials can be dialled")
	}
	for _, p := range server.Peers() {
		if err := p.Close(); err == nil {
			t.Error("one that was not dialled is closed")
		}
	}
}

// TestDialThroughAnotherNode: the peer listens on one node, and the address of
// another one that shares the app with it does as well.
func TestDialThroughAnotherNode(t *testing.T) {
	nodes := testnet.Start(t, 2)
	server := listen(t, "server", Options{Nodes: []string{nodes.URL(0)}})
	other := listen(t, "other", Options{Nodes: []string{nodes.URL(1)}})
	a := other.address()
	a.Peer = server.ID()
	alice, p := dialTo(t, "alice", a.String(), Options{})
	if p.ID() != server.ID() || alice.Node() != nodes.URL(1) {
		t.Fatalf("alice is on %s and has met %v", alice.Node(), p.ID())
	}
}

// TestDialRefuses: an address that is none, another node than it names, one
// where nobody listens, and nobody at all.
func TestDialRefuses(t *testing.T) {
	t.Parallel()
	nodes := testnet.Start(t, 2)
	server, other := listen(t, "server", Options{Nodes: []string{nodes.URL(0)}}), listen(t, "other", Options{Nodes: []string{nodes.URL(1)}})
	good := server.address()
	swapped := good
	swapped.Node = other.address().Node
	absent := good
	absent.Peer = protocol.PeerID{1}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nowhere := good
	nowhere.Port = uint16(l.Addr().(*net.TCPAddr).Port)
	l.Close()
	for _, c := range []struct {
		name, address string
		code          protocol.Code
	}{
		{"no address", "ws://127.0.0.1:" + strconv.Itoa(int(good.Port)), protocol.CodeMalformed},
		{"another node", swapped.String(), protocol.CodeDenied},
		{"nobody listens", absent.String(), protocol.CodeUnknownPeer},
		{"no node", nowhere.String(), 0},
	} {
		within := patience
		if c.code == protocol.CodeUnknownPeer {
			within = stepWithin // which it waits for, once it has joined
		}
		ctx, cancel := context.WithTimeout(t.Context(), within)
		p, err := Dial(ctx, c.address, Options{API: loopback()})
		cancel()
		var e *protocol.Error
		if err == nil || (c.code != 0 && (!errors.As(err, &e) || e.Code != c.code)) {
			t.Errorf("%s: %v, %v; want %v", c.name, p, err, c.code)
		}
	}
	if list := server.list(); len(list) > 0 {
		t.Errorf("the server has met %q", list)
	}
	if _, err := Listen(t.Context(), Options{Nodes: []string{nodes.URL(0)}, Identity: ed25519.PrivateKey("short")}); err == nil {
		t.Error("a short key is an identity")
	}
	if !strings.HasPrefix(good.String(), "/ip4/127.0.0.1/tcp/") {
		t.Errorf("the address is %v", good)
	}
}
