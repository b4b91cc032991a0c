package peer

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/testnet"
)

// listener hears broadcasts of those who are not connected as "name, far: text".
func listener(t *testing.T, name string, o Options) *someone {
	t.Helper()
	var s *someone
	ready := make(chan struct{})
	o.OnBroadcast = func(from Sender, b []byte) {
		<-ready
		s.note(from.Name + ", far: " + string(b))
	}
	s = join(t, name, o)
	close(ready)
	return s
}

// hears waits until everybody has heard a text of a sender, and checks that
// nobody has heard it twice.
func hearsOnce(t *testing.T, from *someone, text string, all ...*someone) (far int) {
	t.Helper()
	lines := func(s *someone) (n int) {
		for _, line := range s.list() {
			if line == from.opts.Name+": "+text || line == from.opts.Name+", far: "+text {
				n++
			}
		}
		return n
	}
	for _, s := range all {
		eventually(t, s.opts.Name+" hears "+text, func() bool { return lines(s) > 0 })
	}
	time.Sleep(200 * time.Millisecond) // a second one would come by now
	for _, s := range all {
		if n := lines(s); n != 1 {
			t.Errorf("%s heard %q %d times", s.opts.Name, text, n)
		}
		if slices.Contains(s.list(), from.opts.Name+", far: "+text) {
			far++
		}
	}
	return far
}

// TestBroadcastInALargeRoom: everybody is connected to one or two others, and
// all hear everything once.
func TestBroadcastInALargeRoom(t *testing.T) {
	t.Parallel()
	const n = 8
	nodes := testnet.Start(t, 2)
	all := make([]*someone, n)
	for i := range all {
		all[i] = listener(t, fmt.Sprint("peer", i), Options{Nodes: []string{nodes.URL(i % 2)}, MaxPeers: 1})
	}
	for _, s := range all {
		eventually(t, s.opts.Name+" knows how many there are", func() bool { return s.Members() == n-1 })
	}
	far := 0
	for i, s := range all {
		text := fmt.Sprint("number ", i)
		s.says(text)
		far += hearsOnce(t, s, text, slices.Delete(slices.Clone(all), i, i+1)...)
	}
	if far == 0 {
		t.Error("everybody is connected to everybody")
	}
	if err := all[0].Broadcast(t.Context(), make([]byte, MaxBroadcast+1)); err == nil {
		t.Error("a broadcast that is too large")
	}
	if err := all[0].Broadcast(t.Context(), make([]byte, MaxBroadcast)); err != nil {
		t.Error(err)
	}
}

// TestBroadcastWithoutNodes: alice and bob cannot connect, and there is no node.
// Carol passes it on.
func TestBroadcastWithoutNodes(t *testing.T) {
	t.Parallel()
	nodes := testnet.StartWith(t, testnet.Options{Nodes: 2, Islands: true})
	g := new(gate)
	g.open.Store(true)
	alice := listener(t, "alice", Options{Nodes: []string{nodes.URL(0)}, API: g.api(), NoRelay: true})
	bob := listener(t, "bob", Options{Nodes: []string{nodes.URL(1)}, NoRelay: true})
	carol := listener(t, "carol", Options{Nodes: []string{nodes.URL(0)}, NoRelay: true})
	alice.sees("+carol")
	g.open.Store(false)
	carol.knows(nodes.URL(1))
	nodes.Kill(0)
	bob.sees("+carol")
	carol.sees("+bob")
	nodes.Kill(1)
	eventually(t, "there is no node", func() bool { return alice.Node()+bob.Node()+carol.Node() == "" })
	eventually(t, "alice knows bob, and that they do not connect", alice.isLarge)
	alice.says("by carol")
	if far := hearsOnce(t, alice, "by carol", bob, carol); far != 1 {
		t.Errorf("%d heard it from afar", far)
	}
}

// TestBadBroadcasts: what does not open, is one's own, or came before is nothing.
func TestBadBroadcasts(t *testing.T) {
	r, other := lone(t, "r"), lone(t, "other")
	h := protocol.EnvelopeHeader{App: r.app, From: other.self, Sequence: 1}
	good, err := h.SealBroadcast(other.key, r.broadcastKey, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	h.From = r.self
	own, err := h.SealBroadcast(r.key, r.broadcastKey, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	for name, e := range map[string]*protocol.Envelope{
		"nil": nil, "empty": {}, "of one's own": own,
		"changed": {Body: []byte(strings.Replace(string(good.Body), "x", "y", 1)), Signature: own.Signature},
	} {
		if _, fresh := r.broadcast(e); fresh {
			t.Errorf("a broadcast that is %s is taken", name)
		}
	}
	for i, want := range []bool{true, false, false} {
		if _, fresh := r.broadcast(good); fresh != want {
			t.Errorf("taken the %d. time: %v", i+1, fresh)
		}
	}
}
