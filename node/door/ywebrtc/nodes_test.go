package ywebrtc_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/peerservers/peerserver/testnet"
)

func at(net *testnet.Net, node int) string { return net.URL(node) + path }

// Five clients on three nodes: what each publishes reaches all of them, the
// sender too, exactly once, in order, unchanged, with the number of all.
func TestOneRoomOnThreeNodes(t *testing.T) {
	t.Parallel()
	net := testnet.Start(t, 3)
	var all []*client
	for i := range 5 {
		all = append(all, enters(t, at(net, i%3), "room"))
	}
	for _, c := range all {
		c.knows("room", len(all))
	}
	bystander := enters(t, at(net, 1), "another room")
	const each = 20
	data := func(from, n int) string {
		return fmt.Sprintf(`{"type":"signal","from":"id %d","to":"x","signal":{ "n" : %d.0, "sdp":"\u00e9é <&>"}}`, from, n)
	}
	for n := range each {
		for i, c := range all {
			c.publish("room", data(i, n))
		}
	}
	for _, c := range all {
		for i := range all {
			c.hears(told("room", data(i, each-1), len(all)))
		}
		for i := range all {
			var want, got []string
			for n := range each {
				want = append(want, told("room", data(i, n), len(all)))
			}
			c.mu.Lock()
			for _, m := range c.log {
				if strings.Contains(m, fmt.Sprintf(`"id %d"`, i)) {
					got = append(got, m)
				}
			}
			c.mu.Unlock()
			if !slices.Equal(got, want) {
				t.Errorf("of client %d came %q", i, got)
			}
		}
	}
	bystander.only()
}

// Without links the same two clients do not meet: what the other tests show
// comes over links.
func TestIslands(t *testing.T) {
	t.Parallel()
	net := testnet.StartWith(t, testnet.Options{Nodes: 2, Islands: true})
	a, b := enters(t, at(net, 0), "room"), enters(t, at(net, 1), "room")
	a.publish("room", announce("a"))
	a.hears(told("room", announce("a"), 1))
	time.Sleep(500 * time.Millisecond)
	b.only()
}

// Two nodes learn of each other when their clients are there already: who was
// there gets what was published before, and who came later does not.
func TestNodesThatMeetLate(t *testing.T) {
	t.Parallel()
	net := testnet.StartWith(t, testnet.Options{Nodes: 2, JoinWait: 2 * time.Second})
	a, b := enters(t, at(net, 0), "room"), enters(t, at(net, 1), "room")
	a.publish("room", announce("a"))
	a.hears(told("room", announce("a"), 1))
	time.Sleep(100 * time.Millisecond) // ages are in milliseconds
	late := enters(t, at(net, 1), "room")
	b.hears(told("room", announce("a"), 3))
	b.publish("room", announce("b"))
	late.hears(told("room", announce("b"), 3))
	a.hears(told("room", announce("b"), 3))
	if late.times(`"from":"a"`) != 0 || b.times(`"from":"a"`) != 1 {
		t.Errorf("who came later heard %q, who was there %q", late.log, b.log)
	}
}

// A node is lost and comes back: its client does too, and those elsewhere go on.
func TestNodeThatComesBack(t *testing.T) {
	t.Parallel()
	net := testnet.Start(t, 3)
	a, gone, c := enters(t, at(net, 0), "room"), enters(t, at(net, 1), "room"), enters(t, at(net, 2), "room")
	for _, one := range []*client{a, gone, c} {
		one.knows("room", 3)
	}
	net.Kill(1)
	a.publish("room", `"meanwhile"`)
	c.await("what is said meanwhile", func() bool {
		return slices.ContainsFunc(c.log, func(m string) bool { return strings.Contains(m, "meanwhile") })
	})
	a.knows("room", 2)
	c.knows("room", 2)
	net.Restart(1)
	b := enters(t, at(net, 1), "room")
	all := []*client{a, b, c}
	for _, one := range all {
		one.knows("room", 3)
	}
	for i, one := range all {
		one.publish("room", announce(fmt.Sprint("client ", i)))
	}
	for _, one := range all {
		for i := range all {
			one.hears(told("room", announce(fmt.Sprint("client ", i)), 3))
			if n := one.times(fmt.Sprintf("client %d", i)); n != 1 {
				t.Errorf("it came %d times", n)
			}
		}
	}
}

// A client publishes to a topic that it is not subscribed to and that nobody on
// its node has.
func TestPublishOnly(t *testing.T) {
	t.Parallel()
	net := testnet.Start(t, 2)
	b := enters(t, at(net, 1), "room")
	a := dial(t, at(net, 0))
	a.publish("room", announce("a"))
	b.hears(told("room", announce("a"), 1))
	a.only()
}
