package rxdb_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/peerservers/peerserver/node/door/rxdb"
	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/testnet"
)

// Two on different nodes are shown each other before the first signal, whoever
// comes first, together or apart.
func TestMeetAcrossNodes(t *testing.T) {
	net := testnet.Start(t, 2)
	for _, gap := range []time.Duration{0, 3 * time.Second} {
		for first := range 2 {
			t.Run(fmt.Sprintf("node %d first, %v", first, gap), func(t *testing.T) {
				t.Parallel()
				room := fmt.Sprintf("two nodes %d %v", first, gap)
				a := enters(t, net.URL(first), room)
				time.Sleep(gap)
				b := enters(t, net.URL(1-first), room)
				meet(a, b)
				a.knows(b)
				b.knows(a)
				b.ws.Close()
				a.knows()
			})
		}
	}
}

// Nodes that learn of each other only when both have members bring them
// together.
func TestNodesMeetLate(t *testing.T) {
	t.Parallel()
	net := testnet.StartWith(t, testnet.Options{Nodes: 2, JoinWait: 3 * time.Second})
	for first := range 2 {
		room := fmt.Sprint("late nodes ", first)
		a, b := enters(t, net.URL(first), room), enters(t, net.URL(1-first), room)
		meet(a, b)
	}
}

// What makes them meet is the federation.
func TestIslandsDoNotMeet(t *testing.T) {
	t.Parallel()
	net := testnet.StartWith(t, testnet.Options{Nodes: 2, Islands: true})
	a, b := enters(t, net.URL(0), "islands"), enters(t, net.URL(1), "islands")
	a.write(a.signal(b.id, `1`))
	b.write(b.signal(a.id, `1`))
	if f, err := a.tryRead(3 * time.Second); err == nil {
		t.Errorf("heard %s", f.raw)
	}
	b.silent()
}

// Five on three nodes are in one room, and each pair signals.
func TestThreeNodes(t *testing.T) {
	t.Parallel()
	net := testnet.Start(t, 3)
	var all []*client
	for _, node := range []int{0, 1, 2, 0, 1} {
		all = append(all, enters(t, net.URL(node), "three nodes"))
	}
	for i, a := range all {
		for _, b := range all[:i] {
			meet(a, b)
		}
	}
	for i, c := range all {
		c.knows(slices.Delete(slices.Clone(all), i, i+1)...)
	}
}

// Those behind a node that dies are in the room no more, and those who come
// back after it has started again are.
func TestNodeKilled(t *testing.T) {
	for first := range 2 {
		t.Run(fmt.Sprintf("client %d first", first), func(t *testing.T) {
			t.Parallel()
			net := testnet.Start(t, 3)
			var both [2]*client
			for _, i := range []int{first, 1 - first} {
				both[i] = enters(t, net.URL(i), "killed node")
			}
			a, b := both[0], both[1]
			stays := enters(t, net.URL(2), "killed node")
			meet(a, b)
			net.Kill(1)
			a.knows(stays)
			stays.knows(a)
			net.Restart(1)
			again := enters(t, net.URL(1), "killed node")
			meet(a, again)
			meet(stays, again)
			a.knows(stays, again)
		})
	}
}

// A link that is lost for a while takes those behind it out of the room, and
// brings them back.
func TestLinkLost(t *testing.T) {
	t.Parallel()
	net := testnet.Start(t, 2)
	a, b := enters(t, net.URL(0), "lost link"), enters(t, net.URL(1), "lost link")
	meet(a, b)
	net.Cut(0, 1)
	a.knows()
	b.knows()
	net.Heal(0, 1)
	meet(a, b)
	a.knows(b)
	b.knows(a)
}

// A room is full when its members on all nodes are as many as it may have.
func TestFullOverNodes(t *testing.T) {
	t.Parallel()
	net := testnet.Start(t, 2)
	for range rxdb.MaxRoom {
		c := enters(t, net.URL(0), "crowd!")
		go func() { // it takes what it is told
			for {
				if _, _, err := c.ws.ReadMessage(); err != nil {
					return
				}
			}
		}()
	}
	first := enters(t, net.URL(1), "crowd!") // before its node knows of the others
	for len(first.known) <= rxdb.MaxRoom {
		first.read()
	}
	late := dial(t, net.URL(1))
	late.write(`{"type":"join","room":"crowd!"}`)
	if e := late.closes(); e.Code != protocol.CloseTryAgainLater || e.Text == "" {
		t.Errorf("closed with %v", e)
	}
}
