package ywebrtc_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/node/door/ywebrtc"
	"github.com/peerservers/peerserver/relay"
	"github.com/peerservers/peerserver/testnet"
)

// A client that was told two URLs of federated nodes hears everything once, on
// the socket that joined last, and what it announces by both is heard once. When
// that socket closes it goes on by the other.
func TestOneClientOnTwoNodes(t *testing.T) {
	for name, delay := range map[string]time.Duration{"near": 0, "far": 30 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			net := testnet.StartWith(t, testnet.Options{Nodes: 3, Delay: delay})
			p := enters(t, at(net, 2), "room")
			var both []*client
			for node := range 2 {
				c := enters(t, at(net, node), "room")
				c.publish("room", announce("two"))
				p.await("an announce", func() bool { return len(p.log) > 0 })
				both = append(both, c)
			}
			old, now := both[0], both[1]
			// All nodes know where the client is.
			hears(t, p, now, old, "first")
			for n := range 20 {
				p.publish("room", fmt.Sprintf(`"signal %d"`, n))
			}
			now.hears(told("room", `"signal 19"`, 2))
			for n := range 20 {
				if now.times(told("room", fmt.Sprintf(`"signal %d"`, n), 2)) != 1 {
					t.Errorf("signal %d came %q", n, now.log)
				}
			}
			old.ping()
			if old.times(`"signal`) != 0 {
				t.Errorf("the older socket heard %q", old.log)
			}
			// It announces again, by both, twice.
			before := p.times(`"from":"two"`)
			for round := range 2 {
				for _, c := range both {
					c.publish("room", announce("two"))
					c.publish("room", fmt.Sprintf(`"mark %d %p"`, round, c))
				}
				for _, c := range both {
					p.await("a mark", func() bool { return slices.Contains(p.log, told("room", fmt.Sprintf(`"mark %d %p"`, round, c), 2)) })
				}
			}
			if n := p.times(`"from":"two"`) - before; n != 2 {
				t.Errorf("two announces by two sockets were heard %d times", n)
			}
			now.ws.Close()
			hears(t, p, old, nil, "second")
		})
	}
}

// hears has p publish until c hears it and not, if not nil, does not.
func hears(t *testing.T, p, c, not *client, what string) {
	t.Helper()
	for end, n := time.Now().Add(patience), 0; ; n++ {
		data := fmt.Sprintf(`"%s %d"`, what, n)
		p.publish("room", data)
		p.ping()
		time.Sleep(150 * time.Millisecond)
		if c.times(data) == 1 && (not == nil || not.times(data) == 0) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%q is not heard there alone", data)
		}
	}
}

// Two sockets of one client on one node: the newest has the membership, and the
// older one gets it back, without a message lost or told twice.
func TestOneClientTwiceOnOneNode(t *testing.T) {
	for how, ends := range map[string]func(*client){
		"closed":       func(c *client) { c.ws.Close() },
		"unsubscribed": func(c *client) { c.unsubscribe("room") },
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			net := testnet.Start(t, 2)
			q := enters(t, at(net, 1), "room")
			p := enters(t, at(net, 0), "room")
			var three []*client
			for range 3 {
				c := enters(t, at(net, 0), "room")
				c.publish("room", announce("two"))
				c.ping()
				three = append(three, c)
			}
			p.knows("room", 3)
			q.knows("room", 3)
			if n := p.times(`"from":"two"`); n != 1 {
				t.Errorf("an announce by three sockets was heard %d times", n)
			}
			ends(three[1]) // which is not the newest
			three[0].ping()
			p.publish("room", `"to the newest"`)
			three[2].hears(told("room", `"to the newest"`, 3))
			const all = 200
			for n := range all {
				if n == all/2 {
					ends(three[2])
				}
				q.publish("room", fmt.Sprintf(`"signal %d."`, n))
			}
			three[0].hears(told("room", fmt.Sprintf(`"signal %d."`, all-1), 3))
			for n := range all {
				text := fmt.Sprintf(`"signal %d."`, n)
				a, b := three[0].times(text), three[2].times(text)
				// What was on its way to a socket that is closed is lost with it.
				if a+b > 1 || (a+b == 0 && how != "closed") {
					t.Errorf("%s came %d and %d times", text, a, b)
				}
			}
			if three[0].times(`"to the newest"`) != 0 {
				t.Error("the older socket heard what the newest did")
			}
		})
	}
}

// A client says who it is while others publish: nothing is lost, nothing comes
// twice.
func TestClientIsNamedMeanwhile(t *testing.T) {
	t.Parallel()
	net := testnet.Start(t, 2)
	p := enters(t, at(net, 1), "room")
	a := enters(t, at(net, 0), "room")
	for _, c := range []*client{a, p} { // and what it says first is out
		c.knows("room", 2)
	}
	const all = 1000
	for n := range all {
		if n == all/2 {
			go a.publish("room", announce("a"))
		}
		p.publish("room", fmt.Sprintf(`"signal %d."`, n))
	}
	a.hears(told("room", fmt.Sprintf(`"signal %d."`, all-1), 2))
	for n := range all {
		if k := a.times(fmt.Sprintf(`"signal %d."`, n)); k != 1 {
			t.Errorf("signal %d came %d times", n, k)
		}
	}
}

// Nobody can see who is in a room with a password: a client with two URLs is two
// members there, and hears everything twice. docs/doors/ywebrtc.md says so.
func TestPasswordAndTwoURLs(t *testing.T) {
	t.Parallel()
	net := testnet.Start(t, 2)
	one, two := enters(t, at(net, 0), "room"), enters(t, at(net, 1), "room")
	p := enters(t, at(net, 1), "room")
	for _, c := range []*client{one, two, p} { // and what it says first is out
		c.knows("room", 3)
	}
	one.publish("room", `"c2VhbGVk"`)
	two.publish("room", `"c2VhbGVk"`)
	p.publish("room", `"mark"`)
	for _, c := range []*client{one, two} {
		c.await("all", func() bool { return slices.Contains(c.log, told("room", `"mark"`, 3)) })
	}
	p.await("both copies", func() bool { return len(p.log) > 0 })
	for end := time.Now().Add(patience); p.times(`"c2VhbGVk"`) != 2; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("came %q", p.log)
		}
	}
}

// A client whose socket broke says again at once what it said, and is heard.
func TestClientComesBack(t *testing.T) {
	s := start(t, door.Config{}, relay.Config{}, 0)
	p := enters(t, s.url+path, "room")
	for n := range 3 {
		c := enters(t, s.url+path, "room")
		c.publish("room", announce("a"))
		p.await("the announce", func() bool { return len(p.log) == n+1 })
		c.ws.Close()
		s.await(t, func(now ywebrtc.Stats) bool { return now.Clients == 1 })
	}
}

// What is not announce or signal names nobody, nor does what has no name of a
// member's size.
func TestWhoIsNotNamed(t *testing.T) {
	s := start(t, door.Config{}, relay.Config{}, 0)
	for _, data := range []string{
		`{"type":"hello","from":"a"}`, `{"from":"a"}`, `{"type":"announce"}`, `{"type":"announce","from":7}`, `{"type":"announce","from":""}`,
		`[{"type":"announce","from":"a"}]`, `"announce"`, `null`, announce(string(make([]byte, 0, 64)) + fmt.Sprintf("%064d", 1)),
	} {
		one, two := enters(t, s.url+path, "room"), enters(t, s.url+path, "room")
		one.publish("room", data)
		one.ping()
		two.publish("room", data)
		two.only(told("room", data, 2), told("room", data, 2))
		one.ws.Close()
		two.ws.Close()
		s.await(t, func(now ywebrtc.Stats) bool { return now.Clients == 0 })
	}
	if d := s.stats().Doubles; d != 0 {
		t.Errorf("%d were dropped", d)
	}
}
