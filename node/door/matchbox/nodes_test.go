package matchbox_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/peerservers/peerserver/testnet"
)

// offerer has two meet that came at nearly the same time to nodes that learn of
// it from each other: one of them is told of the other, and only one. It returns
// that one first.
func offerer(a, b *client) (first, second *client) {
	a.t.Helper()
	first, second, called := meet(a, b)
	if called != [2]string{first.id, second.id} {
		a.t.Fatalf("they are called %q", called)
	}
	return first, second
}

// meet is offerer for two who may be called by other names than their own, and
// returns what the other one calls each.
func meet(a, b *client) (first, second *client, called [2]string) {
	a.t.Helper()
	type told struct {
		c *client
		e *event
	}
	news := make(chan told, 2)
	for _, c := range []*client{a, b} {
		go func() {
			e, _ := c.tryRead(patience)
			news <- told{c, e}
		}()
	}
	one := <-news
	first, second = one.c, a
	if first == a {
		second = b
	}
	if one.e == nil || one.e.NewPeer == "" {
		a.t.Fatalf("%+v", one.e)
	}
	first.signals(one.e.NewPeer, `1`)
	two := <-news
	if two.e == nil || two.e.Signal == nil || string(two.e.Signal.Data) != `1` {
		a.t.Fatalf("%+v", two.e)
	}
	second.signals(two.e.Signal.Sender, `2`)
	first.hears(one.e.NewPeer, `2`)
	return first, second, [2]string{two.e.Signal.Sender, one.e.NewPeer}
}

// Two on different nodes meet: who was there before is told of the other, before
// the first signal, and the other is not.
func TestMeetAcrossNodes(t *testing.T) {
	net := testnet.Start(t, 2)
	for first := range 2 {
		t.Run(fmt.Sprintf("node %d first, 3s", first), func(t *testing.T) {
			t.Parallel()
			room := fmt.Sprint("two-nodes-", first)
			a := enters(t, net.URL(first), room)
			time.Sleep(3 * time.Second)
			b := enters(t, net.URL(1-first), room)
			a.offers(b)
			a.silent()
			b.silent()
			b.ws.Close()
			a.told("PeerLeft", b.id)
		})
		t.Run(fmt.Sprintf("node %d first, together", first), func(t *testing.T) {
			t.Parallel()
			room := fmt.Sprint("two-nodes-at-once-", first)
			a := enters(t, net.URL(first), room)
			b := enters(t, net.URL(1-first), room)
			a, b = offerer(a, b)
			a.silent()
			b.silent()
			a.ws.Close()
			b.told("PeerLeft", a.id)
		})
	}
}

// Nodes that learn of each other only when both have members bring them
// together, once.
func TestNodesMeetLate(t *testing.T) {
	t.Parallel()
	net := testnet.StartWith(t, testnet.Options{Nodes: 2, JoinWait: 3 * time.Second})
	for first := range 2 {
		room := fmt.Sprint("late-nodes-", first)
		a := enters(t, net.URL(first), room)
		b := enters(t, net.URL(1-first), room)
		a, b = offerer(a, b)
		a.silent()
		b.silent()
	}
}

// What makes them meet is the federation.
func TestIslandsDoNotMeet(t *testing.T) {
	t.Parallel()
	net := testnet.StartWith(t, testnet.Options{Nodes: 2, Islands: true})
	a, b := enters(t, net.URL(0), "islands"), enters(t, net.URL(1), "islands")
	a.signals(b.id, `1`)
	b.signals(a.id, `1`)
	time.Sleep(3 * time.Second)
	a.silent()
	b.silent()
}

// Of five on three nodes each is told of those who came after it, and of nobody
// else.
func TestThreeNodes(t *testing.T) {
	t.Parallel()
	net := testnet.Start(t, 3)
	var all []*client
	for _, node := range []int{0, 1, 2, 0, 1} {
		c := enters(t, net.URL(node), "three-nodes")
		for _, before := range all {
			before.offers(c)
		}
		all = append(all, c)
		if len(all) < 3 {
			time.Sleep(time.Second) // until nodes that are new to the room are linked for it
		}
	}
	for _, c := range all {
		c.silent()
	}
	all[2].ws.Close()
	for i, c := range all {
		if i != 2 {
			c.told("PeerLeft", all[2].id)
			c.silent()
		}
	}
}

// Everyone behind a node that dies has left, and those who come back after it has
// started again meet.
func TestNodeKilled(t *testing.T) {
	for first := range 2 {
		t.Run(fmt.Sprintf("client %d first", first), func(t *testing.T) {
			t.Parallel()
			net := testnet.Start(t, 3)
			var both [2]*client
			for _, i := range []int{first, 1 - first} {
				both[i] = enters(t, net.URL(i), "killed-node")
			}
			offerer(both[0], both[1])
			a, b := both[0], both[1]
			second := enters(t, net.URL(1), "killed-node")
			a.offers(second)
			b.offers(second)
			net.Kill(1)
			gone := map[string]bool{b.id: true, second.id: true}
			for range 2 {
				e := a.read()
				if !gone[e.PeerLeft] {
					t.Fatalf("told %s", e.raw)
				}
				delete(gone, e.PeerLeft)
			}
			net.Restart(1)
			again := enters(t, net.URL(1), "killed-node")
			meets, other := offerer(a, again)
			meets.silent()
			other.silent()
		})
	}
}

// A link that is lost for a while takes those behind it out of the room. They
// come back as others would: under another id, since a client takes no offer from
// one that it has been connected to.
func TestLinkLost(t *testing.T) {
	t.Parallel()
	net := testnet.Start(t, 2)
	a, b := enters(t, net.URL(0), "lost-link"), enters(t, net.URL(1), "lost-link")
	a, b = offerer(a, b)
	net.Cut(0, 1)
	a.told("PeerLeft", b.id)
	b.told("PeerLeft", a.id)
	a.signals(b.id, `"lost"`)
	net.Heal(0, 1)
	a, b, called := meet(a, b) // either may be told: they came at nearly the same time
	if called[0] == a.id || called[1] == b.id {
		t.Fatalf("they are called as before: %q", called)
	}
	b.signals(a.id, `"lost"`) // nobody is called that any more
	a.silent()
	b.silent()
	b.ws.Close()
	a.told("PeerLeft", called[1])
}

// A group is of one node: on another one the next N are others.
func TestGroupsDoNotFederate(t *testing.T) {
	t.Parallel()
	net := testnet.Start(t, 2)
	a, b := enters(t, net.URL(0), "group?next=2"), enters(t, net.URL(1), "group?next=2")
	plain := enters(t, net.URL(0), "group")
	time.Sleep(2 * time.Second)
	c := enters(t, net.URL(1), "group?next=2")
	b.offers(c)
	for _, one := range []*client{a, b, c, plain} {
		one.silent()
	}
}
