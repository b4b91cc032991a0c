package relay

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// lives announces as a client does: at once, and again at the interval it was
// last told.
func (c *client) lives() {
	c.announce(5)
	var again func()
	again = func() {
		time.AfterFunc(c.m.Counts().Interval, func() {
			c.m.s.mu.Lock()
			gone := c.m.at < 0
			c.m.s.mu.Unlock()
			if !gone {
				c.announce(5)
				again()
			}
		})
	}
	again()
}

// TestLateComers: whenever the second member comes, and whenever the nodes find
// each other, each is offered to by the other within 2 s of both.
func TestLateComers(t *testing.T) {
	for _, late := range []time.Duration{0, 100 * time.Millisecond, time.Second, 3 * time.Second, 10 * time.Second, 39 * time.Second, 44 * time.Second, 100 * time.Second} {
		for _, find := range []time.Duration{-1, 0, 500 * time.Millisecond, 20 * time.Second} {
			name := fmt.Sprintf("late %v, nodes find each other %v after", late, find)
			if find < 0 {
				name = fmt.Sprintf("late %v, nodes know each other", late)
			}
			t.Run(name, func(t *testing.T) {
				play(t, 2, func(sc *scene) {
					sc.net.setDelay(25 * time.Millisecond)
					if find < 0 {
						sc.meet(sc.nodes...)
					}
					a := sc.nodes[0].join("a")
					a.lives()
					sc.wait(late)
					b := sc.nodes[1].join("b")
					b.lives()
					if find >= 0 {
						sc.wait(find)
						sc.meet(sc.nodes...)
					}
					sc.wait(2 * time.Second)
					toA, toB := a.of(KindOffer, "b"), b.of(KindOffer, "a")
					if len(toA) == 0 || len(toB) == 0 {
						sc.logLinks()
						t.Fatalf("a got %d offers of b, b got %d of a; want some of each", len(toA), len(toB))
					}
					for _, o := range toB {
						b.answer(o)
					}
					sc.wait(time.Second)
					if got := a.of(KindAnswer, "b"); len(got) == 0 {
						t.Errorf("b's answer did not reach a")
					}
					a.m.Leave()
					b.m.Leave()
				})
			})
		}
	}
}

// TestTurns: of two members that have offers for each other the lower id's goes
// first; the other's comes when no answer does, and not at all when one did and
// it was a held one.
func TestTurns(t *testing.T) {
	for _, answered := range []bool{true, false} {
		for _, together := range []bool{true, false} {
			play(t, 2, func(sc *scene) {
				sc.net.setDelay(20 * time.Millisecond)
				low, high := sc.nodes[0].join("low"), sc.nodes[1].join("aaa")
				low, high = high, low // by id
				low.announce(3)
				high.announce(3)
				if !together {
					sc.nodes[1].join("third")
				}
				sc.meet(sc.nodes...)
				sc.wait(time.Second)
				if n := len(high.of(KindOffer, low.id)); n != 1 {
					t.Fatalf("the higher got %d offers of the lower, want 1 at once", n)
				}
				if n := len(low.of(KindOffer, high.id)); n != 0 {
					t.Fatalf("the lower got %d offers of the higher before its turn", n)
				}
				want := 1
				if answered {
					high.answer(high.of(KindOffer, low.id)[0])
					want = 0
				}
				sc.wait(2 * protocol.OfferTurn)
				// A node that does not know yet who is there may give one of its
				// members a second offer, of other candidates.
				if n := len(low.of(KindOffer, high.id)); (n > 0) != (want > 0) || n > 2 {
					t.Errorf("answered %v: the lower got %d offers of the higher, want %d", answered, n, want)
				}
				if n := len(low.of(KindAnswer, "")); n != 1-want {
					t.Errorf("answered %v: the lower got %d answers", answered, n)
				}
			})
		}
	}
}

// TestTurnOfALateComer: whoever comes second and announces, whatever it brings
// waits where the other has a held offer for it and the lower id; on one node
// and on two, also when the second's offers come before its node has told who
// it is.
func TestTurnOfALateComer(t *testing.T) {
	for _, second := range []int{0, 1} {
		for _, busy := range []bool{false, true} {
			for _, ids := range [][2]string{{"aaa", "bbb"}, {"bbb", "aaa"}} {
				t.Run(fmt.Sprintf("on node %d, its swarm changing %v, ids %v", second, busy, ids), func(t *testing.T) {
					play(t, 2, func(sc *scene) {
						sc.meet(sc.nodes...)
						sc.nodes[1].join("there", func(j *Joining) { j.TakesOffers = false })
						one := sc.nodes[0].join(ids[0])
						one.announce(3)
						sc.wait(3 * time.Second)
						if busy { // what its node says of its members waits
							sc.nodes[second].join("xyz").m.Leave()
						}
						two := sc.nodes[second].join(ids[1])
						two.announce(5)
						sc.wait(500 * time.Millisecond)
						low, high := one, two
						if low.id > high.id {
							low, high = high, low
						}
						if n := len(high.of(KindOffer, low.id)); n != 1 {
							t.Fatalf("the higher got %d offers of the lower, want 1 at once", n)
						}
						if n := len(low.of(KindOffer, high.id)); n != 0 {
							t.Fatalf("the lower got %d offers of the higher before its turn", n)
						}
						high.answer(high.of(KindOffer, low.id)[0])
						sc.wait(2 * protocol.OfferTurn)
						if n := len(low.of(KindAnswer, high.id)); n != 1 {
							t.Errorf("the lower got %d answers", n)
						}
					})
				})
			}
		}
	}
}

// TestFirstOfferGoesFirst: whoever has an offer of another and then makes it
// one, waits with it until that is answered, also with the lower id; where the
// two cross on a link the lower id goes first.
func TestFirstOfferGoesFirst(t *testing.T) {
	for _, second := range []int{0, 1} {
		for _, answered := range []bool{true, false} {
			t.Run(fmt.Sprintf("second on node %d, answered %v", second, answered), func(t *testing.T) {
				play(t, 2, func(sc *scene) {
					sc.net.setDelay(10 * time.Millisecond)
					sc.meet(sc.nodes...)
					low, high := sc.nodes[0].join("aaa"), sc.nodes[second].join("bbb")
					sc.wait(time.Second)
					low.announce(0)
					high.announce(5)
					sc.wait(15 * time.Millisecond)
					if n := len(low.of(KindOffer, high.id)); n != 1 {
						t.Fatalf("the lower got %d offers, want 1 at once", n)
					}
					low.announce(5)
					sc.wait(15 * time.Millisecond)
					if n := len(high.of(KindOffer, low.id)); n != 0 {
						t.Fatalf("the higher got %d offers of one that has its own", n)
					}
					if answered {
						low.answer(low.of(KindOffer, high.id)[0])
						sc.wait(15 * time.Millisecond)
						if n := len(high.of(KindAnswer, low.id)); n != 1 {
							t.Errorf("the higher got %d answers", n)
						}
					} else {
						sc.wait(protocol.OfferTurn - 100*time.Millisecond)
						if n := len(high.of(KindOffer, low.id)); n != 0 {
							t.Errorf("the higher got %d offers before the lower's turn", n)
						}
						sc.wait(300 * time.Millisecond)
					}
					if n := len(high.of(KindOffer, low.id)); n != 1 {
						t.Errorf("the higher got %d offers in the end, want 1", n)
					}
				})
			})
		}
	}
}

// TestIntervalIsUnderHold is what makes late comers meet clients that announce
// at the interval.
func TestIntervalIsUnderHold(t *testing.T) {
	if protocol.IntervalSmall >= protocol.OfferHold {
		t.Error("offers are dropped before they are announced again")
	}
	play(t, 1, func(sc *scene) {
		first := sc.nodes[0].join("0")
		for i := 1; i < 60; i++ {
			held := first.m.Counts()
			if small := first.m.s.small(); small != (held.Interval < protocol.OfferHold) {
				t.Fatalf("%d members: held %v, interval %v", i, small, held.Interval)
			}
			sc.nodes[0].join(fmt.Sprint(i))
		}
	})
}

// TestOfferIsSpentByItsFirstAnswer: until then a repeated announce reaches a
// member that has not had it.
func TestOfferIsSpentByItsFirstAnswer(t *testing.T) {
	play(t, 2, func(sc *scene) {
		sc.meet(sc.nodes...)
		a := sc.nodes[0].join("a")
		b, c := sc.nodes[0].join("b"), sc.nodes[1].join("c")
		sc.wait(time.Second)
		for _, x := range []*client{a, b, c} {
			x.announce(0) // met
		}
		offer := []Offer{{ID: []byte("one"), Payload: []byte("sdp")}}
		a.m.Offer(offer)
		sc.wait(time.Second)
		a.m.Offer(offer)
		sc.wait(time.Second)
		if len(b.of(KindOffer, "a")) != 1 || len(c.of(KindOffer, "a")) != 1 {
			t.Fatalf("b got %d, c got %d; want the same offer once each", len(b.of(KindOffer, "a")), len(c.of(KindOffer, "a")))
		}
		c.answer(c.of(KindOffer, "a")[0])
		sc.wait(time.Second)
		b.answer(b.of(KindOffer, "a")[0])
		sc.wait(time.Second)
		if got := a.of(KindAnswer, ""); len(got) != 1 || got[0].From != "c" {
			t.Fatalf("a got answers %v, want only the first", got)
		}
		a.m.Offer(offer)
		d := sc.nodes[1].join("d")
		d.announce(0)
		sc.wait(2 * time.Second)
		if n := len(b.of(KindOffer, "a")) + len(c.of(KindOffer, "a")) + len(d.of(KindOffer, "a")); n != 2 {
			t.Errorf("a spent offer was given again")
		}
	})
}

// TestAnswerOnlyFromWhoWasAsked: an answer is taken once, from a node that the
// offer was sent to.
func TestAnswerOnlyFromWhoWasAsked(t *testing.T) {
	play(t, 3, func(sc *scene) {
		sc.meet(sc.nodes...)
		a, b, c := sc.nodes[0].join("a"), sc.nodes[1].join("b"), sc.nodes[2].join("c")
		sc.wait(2 * time.Second)
		a.announce(0) // met
		a.announce(1)
		sc.wait(time.Second)
		asked, other := b, c
		if len(b.of(KindOffer, "a")) == 0 {
			asked, other = c, b
		}
		o := asked.of(KindOffer, "a")[0]
		// The other node forges an answer over its link.
		s := other.m.s
		s.mu.Lock()
		for l, rem := range s.remotes {
			if l.node == sc.nodes[0].r.ID() {
				s.signal(rem, other.m, Message{Kind: KindAnswer, To: "a", Ref: o.Ref, Payload: []byte("forged")})
			}
		}
		s.mu.Unlock()
		sc.wait(time.Second)
		if got := a.of(KindAnswer, ""); len(got) != 0 {
			t.Fatalf("a took an answer from a node that was not asked: %v", got)
		}
		for range 2 {
			asked.answer(o)
			sc.wait(time.Second)
		}
		if got := a.of(KindAnswer, asked.id); len(got) != 1 {
			t.Fatalf("a got %d answers, want 1", len(got))
		}
	})
}

// TestLinkCutAtEveryMessage cuts the link before and after each message from
// the first of the handshake on: an offer and its answer arrive at most once,
// and once when the link is back in time.
func TestLinkCutAtEveryMessage(t *testing.T) {
	for _, act := range []action{cutBefore, cutAfter} {
		for cutAt := range 14 {
			t.Run(fmt.Sprintf("%v message %d", map[action]string{cutBefore: "before", cutAfter: "after"}[act], cutAt), func(t *testing.T) {
				play(t, 2, func(sc *scene) {
					sc.net.setDelay(10 * time.Millisecond)
					seen, done := 0, false
					sc.net.hook(func(_, _ string, _ int, _ []byte) action {
						seen++
						if seen-1 == cutAt {
							done = true
							return act
						}
						return pass
					})
					a, b := sc.nodes[0].join("a"), sc.nodes[1].join("b")
					a.announce(1)
					sc.meet(sc.nodes...)
					answered := 0
					for range 80 {
						sc.wait(50 * time.Millisecond)
						if offers := b.of(KindOffer, "a"); len(offers) > answered {
							b.answer(offers[answered])
							answered++
						}
					}
					sc.wait(3 * time.Second)
					if !done {
						t.Skipf("only %d messages flowed", seen)
					}
					if n := len(b.of(KindOffer, "a")); n != 1 {
						t.Errorf("b got the offer %d times, want once", n)
					}
					if n := len(a.of(KindAnswer, "b")); n != 1 {
						t.Errorf("a got the answer %d times, want once", n)
					}
				})
			})
		}
	}
}

// TestStreamOverAFailingLink sends 300 messages each way over a link that dies
// again and again: all arrive, once, in order.
func TestStreamOverAFailingLink(t *testing.T) {
	play(t, 2, func(sc *scene) {
		sc.net.setDelay(15 * time.Millisecond)
		sc.meet(sc.nodes...)
		a, b := sc.nodes[0].join("a"), sc.nodes[1].join("b")
		sc.wait(time.Second)
		n := 0
		sc.net.hook(func(_, _ string, _ int, _ []byte) action {
			if n++; n%23 == 0 {
				return []action{cutBefore, cutAfter}[n/23%2]
			}
			return pass
		})
		for i := range 300 {
			for _, p := range []struct {
				from *client
				to   string
			}{{a, "b"}, {b, "a"}} {
				if code := p.from.m.Send(Message{Kind: KindDirect, To: p.to, Payload: fmt.Append(nil, i)}); code != protocol.CodeOK {
					t.Fatalf("send %d: %v", i, code)
				}
			}
			sc.wait(30 * time.Millisecond)
		}
		sc.wait(5 * time.Second)
		for _, c := range []*client{a, b} {
			var order []string
			for _, e := range c.of(KindDirect, "") {
				order = append(order, string(e.Payload))
			}
			if len(order) != 300 {
				t.Errorf("%s got %d messages, want 300", c.id, len(order))
			}
			for i, p := range order {
				if p != fmt.Sprint(i) {
					t.Fatalf("%s: message %d is %s", c.id, i, p)
				}
			}
			if f := c.of(KindFailed, ""); len(f) != 0 {
				t.Errorf("%s: %d sends failed", c.id, len(f))
			}
		}
	})
}

// TestNodeLost: a node that is cut off or falls silent. Its offers go elsewhere
// once, sends to it fail after 3 s, its members leave after 5 s.
func TestNodeLost(t *testing.T) {
	for _, how := range []string{"killed", "cut", "silent"} {
		t.Run(how, func(t *testing.T) {
			play(t, 3, func(sc *scene) {
				sc.meet(sc.nodes...)
				watch := func(j *Joining) { j.Present, j.WantsPresence = true, true }
				a, b, c := sc.nodes[0].join("a", watch), sc.nodes[1].join("b", watch), sc.nodes[2].join("c", watch)
				sc.wait(2 * time.Second)
				for _, x := range []*client{a, b, c} {
					x.announce(0)
				}
				lossSeen := time.Duration(0)
				switch how {
				case "killed":
					sc.nodes[1].kill()
				case "cut":
					sc.net.cut(sc.nodes[0].url, sc.nodes[1].url)
					sc.net.cut(sc.nodes[2].url, sc.nodes[1].url)
				case "silent":
					sc.net.freeze(sc.nodes[0].url, sc.nodes[1].url)
					sc.net.freeze(sc.nodes[2].url, sc.nodes[1].url)
					lossSeen = protocol.LinkSilence
				}
				lost := time.Now()
				a.announce(2)
				a.m.Send(Message{Kind: KindDirect, To: "b", Ref: []byte("r"), Payload: []byte("x")})
				sc.wait(2 * time.Second)
				if how != "silent" && len(c.of(KindOffer, "a")) != 1 {
					t.Errorf("c got %d offers before the node was given up, want 1", len(c.of(KindOffer, "a")))
				}
				sc.wait(lossSeen + 1500*time.Millisecond)
				if n := len(c.of(KindOffer, "a")); n != 2 {
					t.Errorf("c got %d offers, want the one placed elsewhere too", n)
				}
				if f := a.of(KindFailed, "b"); len(f) != 1 || f[0].Code != protocol.CodeNodeGone || string(f[0].Ref) != "r" {
					t.Errorf("a's send failed as %+v, want once with %v", f, protocol.CodeNodeGone)
				}
				if n := len(a.of(KindLost, "b")); n != 0 && how != "silent" {
					t.Errorf("b left %v after its node was lost, before its time", time.Since(lost))
				}
				sc.wait(2 * time.Second)
				if n := len(a.of(KindLost, "b")); n != 1 {
					t.Errorf("b was lost %d times for a, want once", n)
				}
				if got := a.m.Counts(); got.Incomplete != 2 {
					t.Errorf("a counts %d members, want 2", got.Incomplete)
				}
			})
		})
	}
}

// TestRejoinAfterALoss: a peer whose node is lost and that comes back within
// 5 s, through another node or its own, never left; also when its node is back
// much sooner.
func TestRejoinAfterALoss(t *testing.T) {
	watch := func(j *Joining) { j.Present, j.WantsPresence = true, true }
	for _, tc := range []struct {
		name      string
		restarted bool
		through   int // -1: does not come back
	}{
		{"another node", false, 2},
		{"another node, its own back", true, 2},
		{"its own node", true, 1},
		{"never", false, -1},
		{"never, its own node back", true, -1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			play(t, 3, func(sc *scene) {
				sc.meet(sc.nodes...)
				a := sc.nodes[0].join("a", watch)
				sc.nodes[1].join("b", watch)
				sc.nodes[2].join("c", watch)
				sc.wait(2 * time.Second)
				sc.nodes[1].kill()
				sc.wait(time.Second)
				if tc.restarted {
					sc.nodes[1].run()
					sc.meet(sc.nodes...)
				}
				sc.wait(3 * time.Second)
				left := func() int { return len(a.of(KindLost, "b")) + len(a.of(KindLeft, "b")) }
				if n := left(); n != 0 {
					t.Errorf("b left %d times within 4 s of the loss of its node", n)
				}
				if tc.restarted && tc.through < 0 {
					if code := a.m.Send(Message{Kind: KindDirect, To: "b", Payload: []byte("x")}); code != protocol.CodeNodeGone {
						t.Errorf("a send to b, whose node has forgotten it: %v, want %v", code, protocol.CodeNodeGone)
					}
				}
				want := 1
				if tc.through >= 0 {
					sc.nodes[tc.through].join("b", watch)
					want = 0
				}
				sc.wait(2 * time.Second)
				if n := left(); n != want {
					t.Errorf("b left %d times for a within 6 s, want %d", n, want)
				}
				if n := len(a.of(KindJoined, "b")); n != 1 {
					t.Errorf("b joined %d times for a, want once", n)
				}
				sc.wait(time.Minute)
				if n := left(); n != want {
					t.Errorf("b left %d times for a, want %d", n, want)
				}
				if tc.through < 0 {
					return
				}
				if code := a.m.Send(Message{Kind: KindDirect, To: "b", Payload: []byte("x")}); code != protocol.CodeOK {
					t.Errorf("a cannot send to b: %v", code)
				}
			})
		})
	}
}

// TestDrain: a node that says goodbye gives its peers no time of uncertainty,
// and is not dialled while it ends.
func TestDrain(t *testing.T) {
	play(t, 2, func(sc *scene) {
		sc.meet(sc.nodes...)
		a := sc.nodes[0].join("a")
		sc.nodes[1].join("b")
		sc.wait(time.Second)
		sc.nodes[1].r.Drain(t.Context())
		sc.wait(100 * time.Millisecond)
		sc.nodes[1].stop()
		a.m.Send(Message{Kind: KindDirect, To: "b", Ref: []byte("r"), Payload: []byte("x")})
		sc.wait(300 * time.Millisecond)
		if f := a.of(KindFailed, "b"); len(f) != 1 {
			t.Errorf("a's send to a drained node failed %d times, want once and at once", len(f))
		}
	})
}

// TestBothDial: two nodes that dial each other at once end with one link, with
// nothing lost.
func TestBothDial(t *testing.T) {
	for _, delay := range []time.Duration{0, time.Millisecond, 50 * time.Millisecond, 300 * time.Millisecond} {
		play(t, 2, func(sc *scene) {
			sc.net.setDelay(delay)
			a, b := sc.nodes[0].join("a"), sc.nodes[1].join("b")
			a.announce(1)
			b.announce(1)
			sc.meet(sc.nodes...)
			sc.wait(20*delay + 500*time.Millisecond + protocol.OfferTurn)
			if n := sc.net.links(sc.nodes[0].url, sc.nodes[1].url); n != 1 {
				t.Errorf("delay %v: %d links, want 1", delay, n)
			}
			if len(a.of(KindOffer, "b")) != 1 || len(b.of(KindOffer, "a")) != 1 {
				t.Errorf("delay %v: a got %d offers, b %d, want 1 each", delay, len(a.of(KindOffer, "b")), len(b.of(KindOffer, "a")))
			}
			sc.wait(30 * time.Second)
			if n := sc.net.links(sc.nodes[0].url, sc.nodes[1].url); n != 1 {
				t.Errorf("delay %v: %d links after 30 s, want 1", delay, n)
			}
		})
	}
}

// TestManyNodesMesh: each of thirty knows only the first at its start, and within 5 s
// of the last one's start every pair is linked.
func TestManyNodesMesh(t *testing.T) {
	n := fewer(30, 12)
	play(t, n, func(sc *scene) {
		sc.net.setDelay(20 * time.Millisecond)
		var members []*client
		for i, nd := range sc.nodes {
			members = append(members, nd.join(fmt.Sprint(i)))
			if i > 0 {
				nd.finder.know(sc.nodes[0].finder.own)
			}
			sc.wait(100 * time.Millisecond)
		}
		deadline := time.Now().Add(5 * time.Second)
		for {
			linked := 0
			for _, nd := range sc.nodes {
				linked += nd.r.Stats().Links
			}
			if linked == n*(n-1) {
				t.Logf("meshed %v after the last node's start", 5*time.Second-time.Until(deadline))
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d of %d links after 5 s", linked, n*(n-1))
			}
			sc.wait(50 * time.Millisecond)
		}
		sc.wait(time.Second)
		for _, c := range members {
			if got := c.m.Counts(); got.Incomplete != n {
				t.Fatalf("%s counts %d members, want %d", c.id, got.Incomplete, n)
			}
		}
	})
}

// TestOneClientOnTwoNodes: it is one member, counted once, never offered to
// itself, and sent to where it joined last.
func TestOneClientOnTwoNodes(t *testing.T) {
	play(t, 3, func(sc *scene) {
		sc.meet(sc.nodes...)
		b := sc.nodes[2].join("b")
		x1 := sc.nodes[0].join("x")
		sc.wait(2 * time.Second)
		x2 := sc.nodes[1].join("x")
		sc.wait(2 * time.Second)
		for _, c := range []*client{b, x1, x2} {
			if got := c.m.Counts(); got.Incomplete != 2 {
				t.Errorf("%s counts %d members, want 2", c.id, got.Incomplete)
			}
		}
		x1.announce(5)
		x2.announce(5)
		sc.wait(time.Second)
		if n := len(x1.of(KindOffer, "x")) + len(x2.of(KindOffer, "x")); n != 0 {
			t.Errorf("x was offered to itself %d times", n)
		}
		b.announce(5)
		sc.wait(time.Second)
		if n1, n2 := len(x1.of(KindOffer, "b")), len(x2.of(KindOffer, "b")); n1 != 0 || n2 != 1 {
			t.Errorf("b's offer reached x %d times on the old node and %d on the new, want 0 and 1", n1, n2)
		}
		b.m.Send(Message{Kind: KindDirect, To: "x", Payload: []byte("m")})
		sc.wait(time.Second)
		if n1, n2 := len(x1.of(KindDirect, "b")), len(x2.of(KindDirect, "b")); n1 != 0 || n2 != 1 {
			t.Errorf("b's message reached x %d times on the old node and %d on the new, want 0 and 1", n1, n2)
		}
		x2.m.Leave()
		sc.wait(2 * time.Second)
		b.m.Send(Message{Kind: KindDirect, To: "x", Payload: []byte("m")})
		sc.wait(time.Second)
		if n := len(x1.of(KindDirect, "b")); n != 1 {
			t.Errorf("after the newer join left, b's message reached x %d times, want 1", n)
		}
	})
}

// TestOnlyContactRestarted: two nodes that know nobody else restart together,
// keep their keys and what they know on disk, and meet again.
func TestOnlyContactRestarted(t *testing.T) {
	play(t, 2, func(sc *scene) {
		sc.meet(sc.nodes...)
		sc.nodes[0].join("a")
		sc.nodes[1].join("b")
		sc.wait(time.Second)
		sc.nodes[0].stop()
		sc.nodes[1].stop()
		sc.wait(time.Second)
		sc.nodes[0].run()
		sc.nodes[1].run()
		sc.meet(sc.nodes...)
		a, b := sc.nodes[0].join("a"), sc.nodes[1].join("b")
		a.announce(1)
		b.announce(1)
		sc.wait(2 * time.Second)
		if len(a.of(KindOffer, "b")) != 1 || len(b.of(KindOffer, "a")) != 1 {
			t.Errorf("a got %d offers of b, b %d of a; want 1 each", len(a.of(KindOffer, "b")), len(b.of(KindOffer, "a")))
		}
	})
}

// TestOneRestarted: the other node starts anew with it at once.
func TestOneRestarted(t *testing.T) {
	play(t, 2, func(sc *scene) {
		sc.meet(sc.nodes...)
		a := sc.nodes[0].join("a")
		sc.nodes[1].join("b")
		a.announce(3)
		sc.wait(10 * time.Second)
		sc.nodes[1].kill()
		sc.wait(500 * time.Millisecond)
		sc.nodes[1].run()
		sc.meet(sc.nodes...)
		b := sc.nodes[1].join("b2")
		b.announce(1)
		sc.wait(3 * time.Second)
		if len(a.of(KindOffer, "b2")) != 1 || len(b.of(KindOffer, "a")) != 1 {
			sc.logLinks()
			t.Errorf("a got %d offers of b2, b2 %d of a; want 1 each", len(a.of(KindOffer, "b2")), len(b.of(KindOffer, "a")))
		}
		if got := a.m.Counts(); got.Incomplete != 2 {
			t.Errorf("a counts %d, want 2: the old b went with its node", got.Incomplete)
		}
	})
}

// TestPublishes: each subscriber that one server would have reached gets it,
// once; also on a node that is found later, but never one younger than the
// publish.
func TestPublishes(t *testing.T) {
	sub := func(j *Joining) { j.Subscriber, j.TakesOffers = true, false }
	for _, find := range []time.Duration{-1, time.Second, 29 * time.Second, 31 * time.Second} {
		t.Run(fmt.Sprint("nodes found after ", find), func(t *testing.T) {
			play(t, 3, func(sc *scene) {
				if find < 0 {
					sc.meet(sc.nodes...)
				}
				a, b := sc.nodes[0].join("a", sub), sc.nodes[1].join("b", sub)
				sc.wait(time.Second)
				a.m.Publish([]byte("1"))
				sc.wait(100 * time.Millisecond)
				late := sc.nodes[2].join("late", sub)
				if find >= 0 {
					sc.wait(find - 100*time.Millisecond)
					sc.meet(sc.nodes...)
				}
				sc.wait(2 * time.Second)
				want := 1
				if find > protocol.PublishHold {
					want = 0
				}
				if n := len(b.of(KindPublish, "a")); n != want {
					t.Errorf("b got it %d times, want %d", n, want)
				}
				if n := len(late.of(KindPublish, "a")); n != 0 {
					t.Errorf("one that came later got it %d times", n)
				}
				if n := len(a.of(KindPublish, "")); n != 0 {
					t.Errorf("a got its own publish")
				}
			})
		})
	}
}

// TestPublishesSurviveAnOutage: they wait longer than anything else, and come
// once.
func TestPublishesSurviveAnOutage(t *testing.T) {
	sub := func(j *Joining) { j.Subscriber = true }
	for _, out := range []time.Duration{time.Second, 4 * time.Second, 10 * time.Second, 25 * time.Second} {
		play(t, 2, func(sc *scene) {
			sc.net.setDelay(10 * time.Millisecond)
			sc.meet(sc.nodes...)
			a, b := sc.nodes[0].join("a", sub), sc.nodes[1].join("b", sub)
			sc.wait(2 * time.Second)
			a.m.Publish([]byte("before"))
			sc.net.cut(sc.nodes[0].url, sc.nodes[1].url)
			a.m.Publish([]byte("while"))
			sc.wait(out)
			sc.net.heal(sc.nodes[0].url, sc.nodes[1].url)
			sc.wait(time.Minute)
			var texts []string
			for _, e := range b.of(KindPublish, "a") {
				texts = append(texts, string(e.Payload))
			}
			if !slices.Equal(texts, []string{"before", "while"}) {
				t.Errorf("outage of %v: b got %v, want before and while, once each", out, texts)
			}
		})
	}
}

// TestPublishWithoutMembers: a publish to an app that has no member here finds
// the one node that has, and leaves nothing behind.
func TestPublishWithoutMembers(t *testing.T) {
	play(t, 3, func(sc *scene) {
		sc.meet(sc.nodes...)
		sc.wait(2 * time.Second)
		b := sc.nodes[2].join("b", func(j *Joining) { j.Subscriber = true })
		sc.wait(time.Second)
		sc.nodes[0].r.Publish(testApp, "x", []byte("hello"))
		sc.wait(time.Second)
		if n := len(b.of(KindPublish, "x")); n != 1 {
			t.Errorf("b got it %d times, want once", n)
		}
		sc.wait(time.Minute)
		if n := len(sc.nodes[0].r.swarms); n != 0 {
			t.Errorf("%d apps are left", n)
		}
	})
}

// TestPresenceOrder: whoever joins, each pair agrees on who was there before,
// also when the joins cross or the nodes find each other later.
func TestPresenceOrder(t *testing.T) {
	watch := func(j *Joining) { j.Present, j.WantsPresence = true, true }
	for _, apart := range []time.Duration{0, 5 * time.Millisecond, 20 * time.Millisecond, 100 * time.Millisecond} {
		for _, find := range []time.Duration{-1, 0, 10 * time.Second} {
			play(t, 2, func(sc *scene) {
				sc.net.setDelay(20 * time.Millisecond)
				if find < 0 {
					sc.meet(sc.nodes...)
					sc.nodes[0].join("w0", watch)
					sc.nodes[1].join("w1", watch)
					sc.wait(2 * time.Second)
				}
				a := sc.nodes[0].join("a", watch)
				before := a.m.Members()
				sc.wait(apart)
				b := sc.nodes[1].join("b", watch)
				before2 := b.m.Members()
				if find >= 0 {
					sc.wait(find)
					sc.meet(sc.nodes...)
				}
				sc.wait(2 * time.Second)
				has := func(list []Info, id string) int {
					n := 0
					for _, i := range list {
						if i.ID == id {
							n++
						}
					}
					return n
				}
				aJoined, aPresent := len(a.of(KindJoined, "b")), len(a.of(KindPresent, "b"))+has(before, "b")
				bJoined, bPresent := len(b.of(KindJoined, "a")), len(b.of(KindPresent, "a"))+has(before2, "a")
				if aJoined+aPresent != 1 || bJoined+bPresent != 1 {
					t.Fatalf("apart %v, find %v: a learnt of b %d+%d times, b of a %d+%d", apart, find, aJoined, aPresent, bJoined, bPresent)
				}
				if aJoined != bPresent {
					t.Errorf("apart %v, find %v: a joined first? a says %d, b says %d", apart, find, aJoined, bPresent)
				}
				if apart > 40*time.Millisecond && aJoined != 1 {
					t.Errorf("apart %v, find %v: the earlier is not taken for it", apart, find)
				}
			})
		}
	}
}

// TestJoinBeforeFirstSignal: over a link that just came up too.
func TestJoinBeforeFirstSignal(t *testing.T) {
	watch := func(j *Joining) { j.Present, j.WantsPresence = true, true }
	play(t, 2, func(sc *scene) {
		sc.net.setDelay(20 * time.Millisecond)
		a, b := sc.nodes[0].join("a", watch), sc.nodes[1].join("b", watch)
		sc.meet(sc.nodes...)
		for range 200 {
			sc.wait(time.Millisecond)
			a.m.Send(Message{Kind: KindDirect, To: "b", Payload: []byte("x")})
			b.m.Send(Message{Kind: KindDirect, To: "a", Payload: []byte("x")})
		}
		sc.wait(time.Second)
		for _, c := range []*client{a, b} {
			known := false
			for _, e := range c.events {
				known = known || e.Kind == KindJoined || e.Kind == KindPresent
				if e.Kind == KindDirect && !known {
					t.Fatalf("%s got a signal of a peer it had not been shown", c.id)
				}
			}
			if len(c.of(KindDirect, "")) == 0 {
				t.Errorf("%s got nothing", c.id)
			}
		}
	})
}

// TestClaimedCounts: a node that lies about its members gets offers for 64 of
// them at most, and fewer as it does not answer.
func TestClaimedCounts(t *testing.T) {
	play(t, 2, func(sc *scene) {
		sc.meet(sc.nodes...)
		var honest []*client
		for i := range 60 {
			honest = append(honest, sc.nodes[0].join(fmt.Sprint(i)))
		}
		liar := sc.nodes[1].join("liar")
		sc.wait(2 * time.Second)
		s := liar.m.s
		lie := func() {
			s.mu.Lock()
			for _, rem := range s.remotes {
				rem.l.send(outgoing{kind: kindControl}, swarmFrame(&protocol.Swarm{App: rem.theirs, Mine: s.number, Members: 1_000_000}))
			}
			s.mu.Unlock()
			sc.wait(100 * time.Millisecond)
		}
		lie()
		if got := honest[0].m.Counts(); got.Incomplete > 60+protocol.BelievedMembers {
			t.Errorf("a lie of 1,000,000 is counted as %d", got.Incomplete-60)
		}
		crossed := func() uint64 { return sc.nodes[0].r.Stats().Crossed }
		round := func() float64 {
			before := crossed()
			for _, c := range honest {
				c.announce(5)
				sc.wait(20 * time.Millisecond)
				for _, h := range honest {
					for _, o := range h.of(KindOffer, "") {
						h.answer(o)
					}
					h.events = nil
				}
			}
			return float64(crossed()-before) / float64(5*len(honest))
		}
		first := round()
		last := first
		for range 20 {
			last = round()
		}
		t.Logf("of the offers the liar got %.0f %% at first, %.0f %% in the end", 100*first, 100*last)
		if last > first/4 {
			t.Errorf("the liar still gets %.2f of the offers, %.2f at first", last, first)
		}
	})
}

func swarmFrame(f *protocol.Swarm) *protocol.Frame {
	return &protocol.Frame{Body: &protocol.Frame_Swarm{Swarm: f}}
}

// TestHeldOffersAreBounded: in number for a receiver, and in bytes for a node.
func TestHeldOffersAreBounded(t *testing.T) {
	play(t, 2, func(sc *scene) {
		sc.meet(sc.nodes...)
		for i := range 40 {
			sc.nodes[i%2].join(fmt.Sprint(i)).announce(3)
		}
		sc.wait(2 * time.Second)
		c := sc.nodes[0].join("late")
		c.announce(0)
		sc.wait(2 * time.Second)
		if n := len(c.of(KindOffer, "")); n != protocol.HeldPerReceiver {
			t.Errorf("a late comer got %d held offers, want %d", n, protocol.HeldPerReceiver)
		}
		sc.wait(time.Minute)
		for _, nd := range sc.nodes {
			if n := nd.r.heldBytes.Load(); n != 0 {
				t.Errorf("node %d still holds %d bytes", nd.i, n)
			}
		}
	})
}

// TestLinkBufferIsBounded: to a node that does not acknowledge, at most 1 MB
// waits; the oldest offers fail first, sends say so.
func TestLinkBufferIsBounded(t *testing.T) {
	play(t, 2, func(sc *scene) {
		sc.meet(sc.nodes...)
		a, b := sc.nodes[0].join("a"), sc.nodes[1].join("b")
		sc.wait(time.Second)
		sc.net.freeze(sc.nodes[0].url, sc.nodes[1].url)
		big := make([]byte, 50<<10)
		full := 0
		for i := range 60 {
			a.m.Offer([]Offer{{ID: fmt.Append(nil, "o", i), Payload: big}})
			if code := a.m.Send(Message{Kind: KindDirect, To: "b", Payload: big}); code == protocol.CodeFull {
				full++
			}
			if code := a.m.Send(Message{Kind: KindData, To: "b", Payload: big}); code == protocol.CodeFull {
				full++
			}
		}
		var l *link
		for _, l = range sc.nodes[0].r.links {
		}
		if l.bytes > protocol.ResendBytes {
			t.Errorf("%d bytes wait, more than %d", l.bytes, protocol.ResendBytes)
		}
		if full == 0 {
			t.Error("no send was refused")
		}
		sc.net.heal(sc.nodes[0].url, sc.nodes[1].url)
		sc.wait(30 * time.Second)
		if a.m.Send(Message{Kind: KindDirect, To: "b", Payload: []byte("after")}) != protocol.CodeOK {
			t.Error("the link does not recover")
		}
		sc.wait(time.Second)
		if got := b.of(KindDirect, "a"); len(got) == 0 || string(got[len(got)-1].Payload) != "after" {
			t.Error("the link does not carry messages again")
		}
	})
}

// TestScrape: counts of an app without members here are asked for.
func TestScrape(t *testing.T) {
	play(t, 3, func(sc *scene) {
		sc.meet(sc.nodes...)
		sc.wait(time.Second)
		sc.nodes[1].join("b", func(j *Joining) { j.Seeder = true })
		sc.nodes[2].join("c")
		sc.wait(time.Second)
		var got []Counts
		sc.nodes[0].r.Scrape([]protocol.AppID{testApp, protocol.App("test", []byte("none"), nil)}, func(c []Counts) { got = c })
		sc.wait(400 * time.Millisecond)
		if len(got) != 2 || got[0].Complete != 1 || got[0].Incomplete != 1 || got[1].Complete+got[1].Incomplete != 0 {
			t.Errorf("scrape says %+v, want 1 complete and 1 incomplete, and nothing", got)
		}
		sc.wait(time.Minute)
		if n := len(sc.nodes[0].r.swarms); n != 0 {
			t.Errorf("%d apps are left", n)
		}
	})
}

// TestForeign: what came from another node says so, and nothing else does: a
// door checks the bytes of the one and has made those of the other.
func TestForeign(t *testing.T) {
	all := func(j *Joining) { j.Subscriber, j.Present, j.WantsPresence = true, true, true }
	for _, late := range []bool{false, true} { // what is held, too
		play(t, 2, func(sc *scene) {
			if !late {
				sc.meet(sc.nodes...)
			}
			clients := []*client{sc.nodes[0].join("a0", all), sc.nodes[0].join("b0", all), sc.nodes[1].join("c1", all), sc.nodes[1].join("d1", all)}
			sc.wait(time.Second)
			for _, c := range clients {
				c.m.Offer([]Offer{{ID: []byte(c.id + "1"), Payload: []byte("x")}, {ID: []byte(c.id + "2"), Payload: []byte("x")}, {ID: []byte(c.id + "3"), Payload: []byte("x")}})
				c.m.Publish([]byte("x"))
			}
			sc.meet(sc.nodes...)
			sc.wait(3 * time.Second)
			for _, c := range clients {
				for _, o := range c.of(KindOffer, "") {
					c.m.Send(Message{Kind: KindAnswer, To: o.From, Ref: o.Ref, Payload: []byte("x")})
				}
				for _, o := range clients {
					c.m.Send(Message{Kind: KindDirect, To: o.id, Payload: []byte("x")})
				}
			}
			sc.wait(3 * time.Second)
			seen := make(map[Kind]map[bool]bool)
			for _, c := range clients {
				for _, e := range c.events {
					if want := e.From[1] != c.id[1]; e.Foreign != want {
						t.Errorf("late %v: kind %d of %s to %s is foreign: %v", late, e.Kind, e.From, c.id, e.Foreign)
					}
					if seen[e.Kind] == nil {
						seen[e.Kind] = make(map[bool]bool)
					}
					seen[e.Kind][e.Foreign] = true
				}
			}
			for _, k := range []Kind{KindOffer, KindAnswer, KindDirect, KindPublish} {
				if !seen[k][false] || !seen[k][true] {
					t.Errorf("late %v: of kind %d, seen are %v", late, k, seen[k])
				}
			}
		})
	}
}
