package relay

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// say sends a message that waits.
func (c *client) say(to string, n int) protocol.Code {
	return c.m.Send(Message{Kind: KindDirect, To: to, Payload: fmt.Append(nil, n), Wait: true})
}

// heard fails unless the client was told 1 to n by from, in order.
func (c *client) heard(from string, n int) {
	c.t.Helper()
	list := c.of(KindDirect, from)
	for i, e := range list {
		if string(e.Payload) != fmt.Sprint(i+1) {
			c.t.Errorf("%s was told %q as number %d by %s", c.id, e.Payload, i+1, from)
		}
	}
	if len(list) != n {
		c.t.Errorf("%s was told %d messages of %d by %s", c.id, len(list), n, from)
	}
}

// clean fails if anything still waits.
func (nd *tnode) clean() {
	nd.sc.t.Helper()
	if s := nd.r.swarms[testApp]; s != nil && len(s.seeks)+len(s.waiters)+len(s.claiming) > 0 {
		nd.sc.t.Errorf("node %d: %d members are sought for %d, %d claims are open", nd.i, len(s.seeks), len(s.waiters), len(s.claiming))
	}
	if n := nd.r.heldBytes.Load(); n != 0 {
		nd.sc.t.Errorf("node %d: %d bytes are held", nd.i, n)
	}
}

// crowd makes a swarm too large to be listed, so that members are found by
// asking alone.
func (nd *tnode) crowd() {
	for i := range protocol.SmallSwarm {
		nd.claim(fmt.Sprintf("crowd-%d-%d", nd.i, i), 9)
	}
	nd.sc.wait(2 * time.Second)
}

func TestSayToTheOtherNode(t *testing.T) {
	for _, large := range []bool{false, true} {
		t.Run(fmt.Sprintf("large %v", large), func(t *testing.T) {
			residents(t, 3, func(sc *scene) {
				if large {
					sc.nodes[2].crowd()
				}
				al, bob := sc.nodes[0].claim("al", 1), sc.nodes[1].claim("bob", 2)
				sc.wait(time.Second)
				for i := range 20 {
					if code := al.say("bob", i+1); code != protocol.CodeOK {
						t.Fatal(code)
					}
				}
				sc.wait(time.Second)
				bob.heard("al", 20)
				if code := bob.say("al", 1); code != protocol.CodeOK { // its way is known
					t.Fatal(code)
				}
				sc.wait(time.Second)
				al.heard("bob", 1)
				for _, nd := range sc.nodes {
					nd.clean()
				}
			})
		})
	}
}

// TestSayTooEarly: messages wait for who comes within five seconds, on this
// node, on another, or on one that is linked only then.
func TestSayTooEarly(t *testing.T) {
	for _, at := range []int{0, 1, 2} {
		t.Run(fmt.Sprintf("node %d", at), func(t *testing.T) {
			play(t, 3, func(sc *scene) {
				sc.meet(sc.nodes[:2]...)
				al := sc.nodes[0].claim("al", 1)
				sc.nodes[1].claim("somebody", 1)
				sc.wait(5 * time.Second)
				for i := range 5 {
					al.say("bob", i+1)
				}
				sc.wait(3 * time.Second)
				bob := sc.nodes[at].claim("bob", 2)
				sc.wait(200 * time.Millisecond)
				al.say("bob", 6)
				if at == 2 {
					sc.meet(sc.nodes...)
				}
				sc.wait(8 * time.Second)
				bob.heard("al", 6)
				if failed := al.of(KindFailed, ""); len(failed) != 0 {
					t.Errorf("failed too: %v", failed)
				}
				al.nd.clean()
			})
		})
	}
}

// TestSayInVain: who does not come is reported once, after five seconds.
func TestSayInVain(t *testing.T) {
	residents(t, 2, func(sc *scene) {
		al := sc.nodes[0].claim("al", 1)
		sc.wait(time.Second)
		start := time.Since(al.start)
		for i := range 5 {
			al.say("nobody", i)
			al.say("none", i)
			time.Sleep(500 * time.Millisecond)
		}
		sc.wait(10 * time.Second)
		for _, to := range []string{"nobody", "none"} {
			failed := al.of(KindFailed, to)
			if len(failed) != 1 || failed[0].Code != protocol.CodeExpired {
				t.Fatalf("%s: %v", to, failed)
			}
			if d := failed[0].at - start; d < protocol.SignalWait || d > protocol.SignalWait+2*tick {
				t.Errorf("reported after %v", d)
			}
		}
		al.say("nobody", 1)
		sc.wait(10 * time.Second)
		if n := len(al.of(KindFailed, "nobody")); n != 2 {
			t.Errorf("a later message was reported %d times", n-1)
		}
		al.say("nobody", 1)
		al.m.Leave()
		sc.wait(10 * time.Second)
		sc.nodes[0].clean()
		sc.nodes[1].clean()
	})
}

// TestSayToWhoMoved: a message that a node has no member for any more goes on to
// where that is now.
func TestSayToWhoMoved(t *testing.T) {
	residents(t, 3, func(sc *scene) {
		sc.nodes[2].crowd()
		al, bob := sc.nodes[0].claim("al", 1), sc.nodes[1].claim("bob", 2)
		sc.wait(time.Second)
		al.say("bob", 1)
		sc.wait(time.Second)
		bob.heard("al", 1)
		bob.m.Leave()
		moved := sc.nodes[2].claim("bob", 5)
		sc.wait(time.Second)
		for i := range 10 {
			al.say("bob", i+1)
		}
		sc.wait(time.Second)
		moved.heard("al", 10)
		al.nd.clean()
	})
}

// TestSayToADeadNode: who comes back on another node in time gets what was sent
// to the dead one.
func TestSayToADeadNode(t *testing.T) {
	residents(t, 3, func(sc *scene) {
		sc.nodes[2].crowd()
		al, bob := sc.nodes[0].claim("al", 1), sc.nodes[1].claim("bob", 2)
		sc.wait(time.Second)
		al.say("bob", 1)
		sc.wait(time.Second)
		bob.heard("al", 1)
		sc.net.freeze(sc.nodes[0].url, sc.nodes[1].url) // it is silent: nobody knows yet
		al.say("bob", 1)
		al.say("bob", 2)
		time.Sleep(time.Second)
		sc.net.drop(sc.nodes[0].url, sc.nodes[1].url)
		sc.nodes[1].kill()
		back := sc.nodes[2].claim("bob", 2)
		sc.wait(6 * time.Second)
		back.heard("al", 2)
	})
}

// TestSayByTag: an id with a node's tag needs no lookup, and one dial at most.
func TestSayByTag(t *testing.T) {
	play(t, 3, func(sc *scene) {
		a, b := sc.nodes[0], sc.nodes[1]
		sc.meet(a, sc.nodes[2])
		al := a.claim("al", 1)
		bob := b.claim("bob", 2, func(c *Claiming) { c.Issued = true })
		sc.wait(2 * time.Second)
		// Known, and not of the app.
		rec := *b.finder.own
		a.r.mu.Lock()
		a.r.mesh.nodes[rec.Node] = &node{record: &rec, apps: map[protocol.AppID]struct{}{protocol.App("test", []byte("other"), nil): {}}}
		a.r.mu.Unlock()
		tell := func(n int) {
			al.m.Send(Message{Kind: KindDirect, To: "bob", Payload: fmt.Append(nil, n), Wait: true, At: b.r.ID().Tag()})
		}
		tell(1)
		tell(2)
		sc.wait(2 * time.Second)
		bob.heard("al", 2)
		tell(3)
		sc.wait(time.Second)
		bob.heard("al", 3)
		a.clean()
	})
}

// TestWaitingIsBounded: in messages, in bytes and in whom they are for, and one
// client's do not take another's room.
func TestWaitingIsBounded(t *testing.T) {
	residents(t, 2, func(sc *scene) {
		a := sc.nodes[0]
		greedy, large, many, modest := a.claim("greedy", 1), a.claim("large", 1), a.claim("many", 1), a.claim("modest", 1)
		sc.wait(time.Second)
		for name, c := range map[string]struct {
			want int
			send func(i int) protocol.Code
		}{
			"messages": {protocol.MaxWaiting, func(i int) protocol.Code { return greedy.say("nobody", i) }},
			"names":    {protocol.MaxWaitingFor, func(i int) protocol.Code { return many.say(fmt.Sprint("nobody", i), i) }},
			"bytes": {protocol.WaitingBytes / protocol.MaxPayload, func(int) protocol.Code {
				return large.m.Send(Message{Kind: KindDirect, To: "nobody", Payload: make([]byte, protocol.MaxPayload), Wait: true})
			}},
		} {
			taken := 0
			for i := range 2 * c.want {
				if c.send(i) == protocol.CodeOK {
					taken++
				}
			}
			if taken != c.want {
				t.Errorf("%s: %d taken, want %d", name, taken, c.want)
			}
		}
		if code := modest.say("nobody", 1); code != protocol.CodeOK {
			t.Errorf("another client's message: %v", code)
		}
		sc.wait(6 * time.Second)
		a.clean()
		sc.nodes[1].clean()
	})
}

// TestFindsAreBounded: a node that seeks no end of ids costs a bounded map.
func TestFindsAreBounded(t *testing.T) {
	residents(t, 2, func(sc *scene) {
		a, b := sc.nodes[0], sc.nodes[1]
		for n := range 40 {
			c := a.claim(fmt.Sprint("seeker", n), 1)
			time.Sleep(20 * time.Millisecond)
			for i := range protocol.MaxWaitingFor {
				c.say(fmt.Sprint("nobody", n, "-", i), 1)
			}
		}
		synctest.Wait()
		s := b.r.swarms[testApp]
		for _, rem := range s.remotes {
			if n := len(rem.seeks.young) + len(rem.seeks.old); n == 0 || n > 2*protocol.MaxSought {
				t.Errorf("%d ids are remembered", n)
			}
		}
		sc.wait(10 * time.Second)
		a.clean()
	})
}
