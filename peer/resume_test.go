package peer

import (
	"slices"
	"testing"

	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/testnet"
)

// TestResume: the connection to the node breaks for a moment. Nobody is told
// anything, what was known stays known, and who came meanwhile is met.
func TestResume(t *testing.T) {
	t.Parallel()
	nodes := testnet.Start(t, 2)
	x := between(t, nodes.URL(0))
	resumed := make(chan bool, 10)
	departed := make(chan string, 10)
	x.down = func(m *protocol.ToPeer) []*protocol.ToPeer {
		if j := m.GetJoined(); j != nil {
			resumed <- j.Resumed
		}
		return []*protocol.ToPeer{m}
	}
	y := between(t, nodes.URL(1))
	y.down = func(m *protocol.ToPeer) []*protocol.ToPeer {
		if m.GetDeparted() != nil {
			departed <- "somebody"
		}
		return []*protocol.ToPeer{m}
	}
	alice := join(t, "alice", Options{Nodes: []string{x.url}})
	bob := join(t, "bob", Options{Nodes: []string{y.url}})
	bob.sees("+alice")
	alice.sees("+bob")
	if <-resumed {
		t.Error("the first join resumes something")
	}
	alice.homes.mu.Lock()
	alice.homes.urls = alice.homes.urls[:1] // so that it is this node that she comes back to
	alice.homes.mu.Unlock()
	alice.Room.mu.Lock()
	epoch := alice.epoch
	alice.Room.mu.Unlock()
	x.cut()
	if !<-resumed {
		t.Error("the membership was not kept")
	}
	carol := join(t, "carol", Options{Nodes: []string{nodes.URL(1)}})
	alice.sees("+carol")
	carol.sees("+alice")
	alice.Room.mu.Lock()
	if alice.epoch != epoch {
		t.Error("those who were there are doubted")
	}
	alice.Room.mu.Unlock()
	alice.doubt()
	if n := alice.Members(); n != 2 {
		t.Errorf("alice knows of %d others", n)
	}
	if len(departed) > 0 || slices.Contains(bob.list(), "-alice") {
		t.Error("bob was told that somebody had left")
	}
}

// TestLost: a peer whose node is killed, and that is gone too, is lost; one that
// has left is not; and one whose node alone is killed is so until it is back.
func TestLost(t *testing.T) {
	t.Parallel()
	nodes := testnet.Start(t, 2)
	only := func(i int) Options { return Options{Nodes: []string{nodes.URL(i)}, NoRelay: true} } // over nodes it would end with them
	alice, bob, carol := join(t, "alice", only(0)), join(t, "bob", only(1)), join(t, "carol", only(0))
	alice.sees("+bob", "+carol")
	bob.sees("+alice")
	carol.sees("+alice") // or her goodbye might come after the end
	b, c := alice.connected(t, "bob"), alice.connected(t, "carol")
	if b.Node() == c.Node() || b.Node() == (protocol.NodeID{}) {
		t.Errorf("the nodes are %v and %v", b.Node(), c.Node())
	}
	if alice.Node() != nodes.URL(0) {
		t.Errorf("alice is on %q", alice.Node())
	}
	carol.leave()
	alice.sees("-carol")
	if c.Lost() {
		t.Error("one who has left is lost")
	}
	bob.homes.mu.Lock()
	bob.homes.urls = bob.homes.urls[:1] // he finds no other node
	bob.homes.mu.Unlock()
	nodes.Kill(1)
	eventuallyWithin(t, 5*protocol.LinkSilence, "bob's node is lost", b.Lost)
	if slices.Contains(alice.list(), "-bob") {
		t.Error("the connection has ended with the node")
	}
	alice.says("still here")
	bob.sees("alice: still here")
	if err := bob.connected(t, "alice").Connection().Close(); err != nil { // as when his process dies
		t.Fatal(err)
	}
	alice.sees("-bob")
	if !b.Lost() {
		t.Error("one who has gone without a word is not lost")
	}
}
