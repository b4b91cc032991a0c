package peer

import (
	"context"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"github.com/peerservers/peerserver/testnet"
)

// patience is five times what an offer and its answer have: one that is lost, or
// comes too late on a busy machine, is made again.
const patience = 5 * signalWithin

// someone is a room in a test, and what it has seen.
type someone struct {
	*Room
	t *testing.T

	mu   sync.Mutex
	seen []string // "+name", "-name" and "name: message", in order
	met  []*Peer
}

func loopback() *webrtc.API {
	var s webrtc.SettingEngine
	s.SetIncludeLoopbackCandidate(true)
	s.SetInterfaceFilter(func(name string) bool { return name == "lo" })
	s.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	return webrtc.NewAPI(webrtc.WithSettingEngine(s))
}

// join makes a room that is left when the test ends, before its nodes end.
func join(t *testing.T, name string, o Options) *someone {
	t.Helper()
	s := &someone{t: t}
	o.Name = name
	if o.API == nil {
		o.API = loopback()
	}
	o.OnPeer = func(p *Peer) {
		s.mu.Lock()
		s.met = append(s.met, p)
		s.mu.Unlock()
		s.note("+" + p.Name())
	}
	o.OnLeave = func(p *Peer) { s.note("-" + p.Name()) }
	if o.OnMessage == nil {
		o.OnMessage = func(p *Peer, b []byte) { s.note(p.Name() + ": " + string(b)) }
	}
	r, err := Join(t.Context(), "test", o)
	if err != nil {
		t.Fatalf("%s joins: %v", name, err)
	}
	s.Room = r
	t.Cleanup(s.leave)
	return s
}

func (s *someone) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.Leave(ctx); err != nil {
		s.t.Errorf("leave: %v", err)
	}
}

func (s *someone) note(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, what)
}

func (s *someone) list() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.seen)
}

// sees waits for all of it, in any order.
func (s *someone) sees(what ...string) {
	s.t.Helper()
	eventually(s.t, "sees "+strings.Join(what, ", "), func() bool {
		list := s.list()
		return !slices.ContainsFunc(what, func(w string) bool { return !slices.Contains(list, w) })
	})
}

func (s *someone) says(text string) {
	s.t.Helper()
	if err := s.Broadcast(s.t.Context(), []byte(text)); err != nil {
		s.t.Fatalf("broadcast: %v", err)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	eventuallyWithin(t, patience, what, ok)
}

func eventuallyWithin(t *testing.T, d time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(d); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			buf := make([]byte, 1<<18)
			t.Fatalf("%s: not within %v\n%s", what, d, buf[:runtime.Stack(buf, true)])
		}
	}
}

// TestTwoPeersOnTwoNodes is the main job: a channel opens, and what is said
// arrives, both ways.
func TestTwoPeersOnTwoNodes(t *testing.T) {
	net := testnet.Start(t, 2)
	alice := join(t, "alice", Options{Nodes: []string{net.URL(0)}})
	began := time.Now()
	bob := join(t, "bob", Options{Nodes: []string{net.URL(1)}})
	alice.sees("+bob")
	bob.sees("+alice")
	t.Logf("bob met alice %v after he began to join", time.Since(began))
	alice.says("hello bob")
	bob.says("hello alice")
	bob.sees("alice: hello bob")
	alice.sees("bob: hello alice")
	bob.leave()
	alice.sees("-bob")
}
