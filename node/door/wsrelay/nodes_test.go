package wsrelay_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/peerservers/peerserver/testnet"
)

func at(net *testnet.Net, node int) string { return net.URL(node) + path }

// peer is a client in a room, as Trystero is: subscribed to its own topic, then
// to the room's.
func peer(t *testing.T, url, name string) *client {
	t.Helper()
	return enters(t, url, "self of "+name, "room")
}

// Three peers on three nodes hear the room, and each what is for it alone, once
// and unchanged. A topic of a peer is known to nobody else, and no node but its
// own has a subscriber of it.
func TestThreeNodes(t *testing.T) {
	t.Parallel()
	net := testnet.Start(t, 3)
	names := []string{"a", "b", "c"}
	var all []*client
	for i, name := range names {
		all = append(all, peer(t, at(net, i), name))
	}
	announce := func(name string) string { return fmt.Sprintf(`"{\"peerId\":\"%s\"}"`, name) }
	for i, name := range names {
		all[i].publish("room", announce(name))
	}
	for _, c := range all {
		for _, name := range names {
			c.hears(told("room", announce(name)))
		}
	}
	const each = 20
	signal := func(from, to string, n int) string {
		return fmt.Sprintf(`{ "peerId":"%s to %s", "offer" : "\u00e9é <&> %d.", "n":1.0}`, from, to, n)
	}
	for n := range each {
		for i, from := range names {
			for _, to := range names {
				if to != from {
					all[i].publish("self of "+to, signal(from, to, n))
				}
			}
		}
	}
	for i, to := range names {
		for _, from := range names {
			if to == from {
				continue
			}
			all[i].hears(told("self of "+to, signal(from, to, each-1)))
			for n := range each {
				if k := all[i].times(told("self of "+to, signal(from, to, n))); k != 1 {
					t.Errorf("signal %d from %s to %s came %d times", n, from, to, k)
				}
			}
		}
		for _, name := range names {
			if k := all[i].times(told("room", announce(name))); k != 1 {
				t.Errorf("the announce of %s came %d times", name, k)
			}
		}
		all[i].ping()
		if n := len(all[i].log); n != 2*each+3 {
			t.Errorf("%s heard %d messages: %q", to, n, all[i].log)
		}
	}
}

// An offer goes to the one node that has its topic, whether or not the two nodes
// have an app in common besides, whatever was first.
func TestTopicThatNobodyHereHas(t *testing.T) {
	t.Parallel()
	net := testnet.Start(t, 2)
	b := enters(t, at(net, 1), "self of b")
	a := dial(t, at(net, 0))
	for n := range 3 {
		payload := fmt.Sprintf(`"offer %d"`, n)
		a.publish("self of b", payload)
		b.hears(told("self of b", payload))
	}
	a.publish("self of c", `"before c is there"`)
	a.ping()
	time.Sleep(100 * time.Millisecond) // ages are in milliseconds
	c := enters(t, at(net, 1), "self of c")
	a.publish("self of c", `"and after"`)
	c.hears(told("self of c", `"and after"`))
	c.only(told("self of c", `"and after"`))
	b.only(told("self of b", `"offer 0"`), told("self of b", `"offer 1"`), told("self of b", `"offer 2"`))
}

// The nodes learn of each other only after an offer was published: it is held,
// and reaches who was there when it was.
func TestTopicBeforeTheNodesMeet(t *testing.T) {
	t.Parallel()
	net := testnet.StartWith(t, testnet.Options{Nodes: 2, JoinWait: 2 * time.Second})
	b := peer(t, at(net, 1), "b")
	a := peer(t, at(net, 0), "a")
	a.publish("self of b", `"offer"`)
	a.ping()
	time.Sleep(100 * time.Millisecond)
	late := enters(t, at(net, 1), "self of b")
	b.hears(told("self of b", `"offer"`))
	b.publish("self of a", `"answer"`)
	a.hears(told("self of a", `"answer"`))
	a.publish("self of b", `"candidate"`)
	late.hears(told("self of b", `"candidate"`))
	late.only(told("self of b", `"candidate"`))
	b.only(told("self of b", `"offer"`), told("self of b", `"candidate"`))
}

// Without links nothing of the above comes.
func TestIslands(t *testing.T) {
	t.Parallel()
	net := testnet.StartWith(t, testnet.Options{Nodes: 2, Islands: true})
	a, b := peer(t, at(net, 0), "a"), peer(t, at(net, 1), "b")
	a.publish("room", `"announce"`)
	a.publish("self of b", `"offer"`)
	a.only(told("room", `"announce"`))
	time.Sleep(500 * time.Millisecond)
	b.only()
}

// A node is lost and comes back, and its peer on it.
func TestNodeThatComesBack(t *testing.T) {
	t.Parallel()
	net := testnet.Start(t, 3)
	a := peer(t, at(net, 0), "a")
	peer(t, at(net, 1), "b")
	c := peer(t, at(net, 2), "c")
	net.Kill(1)
	a.publish("self of c", `"meanwhile"`)
	c.hears(told("self of c", `"meanwhile"`))
	net.Restart(1)
	b := peer(t, at(net, 1), "b")
	for i, other := range []*client{a, c} {
		offer, answer := fmt.Sprintf(`"offer %d"`, i), fmt.Sprintf(`"answer %d"`, i)
		other.publish("self of b", offer)
		b.hears(told("self of b", offer))
		b.publish("self of "+[]string{"a", "c"}[i], answer)
		other.hears(told("self of "+[]string{"a", "c"}[i], answer))
	}
	b.only(told("self of b", `"offer 0"`), told("self of b", `"offer 1"`))
}
