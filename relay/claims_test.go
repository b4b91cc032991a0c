package relay

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// claim has a client claim an id.
func (nd *tnode) claim(id string, token byte, more ...func(*Claiming)) *client {
	nd.sc.t.Helper()
	c := &client{t: nd.sc.t, id: id, nd: nd, start: time.Now()}
	cl := Claiming{Joining: Joining{ID: id, Sink: c}, Token: [32]byte{token}}
	for _, f := range more {
		f(&cl)
	}
	m, err := nd.r.Claim(testApp, cl)
	if err != nil {
		nd.sc.t.Fatal(err)
	}
	c.m = m
	return c
}

// has says whether the client has its id now.
func (c *client) has() bool {
	return len(c.of(KindHeld, "")) == 1 && len(c.of(KindTaken, ""))+len(c.of(KindReplaced, "")) == 0
}

func (c *client) lost() bool { return len(c.of(KindTaken, "")) == 1 }

// residents plays n nodes that are linked and serve testApp.
func residents(t *testing.T, n int, f func(sc *scene)) {
	t.Helper()
	play(t, n, func(sc *scene) {
		sc.meet(sc.nodes...)
		for _, nd := range sc.nodes {
			nd.claim(fmt.Sprintf("resident-%d", nd.i), byte(nd.i))
		}
		sc.wait(5 * time.Second)
		f(sc)
	})
}

func TestClaimOnOneNode(t *testing.T) {
	play(t, 1, func(sc *scene) {
		a := sc.nodes[0]
		first := a.claim("bob", 1)
		if !first.has() {
			t.Fatal("a claim on a node without links does not stand at once")
		}
		if _, err := a.r.Claim(testApp, Claiming{Joining: Joining{ID: "bob", Sink: &client{}}, Token: [32]byte{2}}); codeOf(err) != protocol.CodeTaken {
			t.Errorf("an id that is taken: %v", err)
		}
		again := a.claim("bob", 1)
		if !again.has() || len(first.of(KindReplaced, "")) != 1 {
			t.Error("the same token does not take the id over")
		}
		first.m.Leave() // of the old socket, late
		if code := a.claim("al", 3).m.Send(Message{Kind: KindDirect, To: "bob", Payload: []byte("hi")}); code != protocol.CodeOK || len(again.of(KindDirect, "al")) != 1 {
			t.Errorf("the old one's end ended the new one: %v", code)
		}
		again.m.Leave()
		if !a.claim("bob", 4).has() {
			t.Error("an id that was left is not free")
		}
	})
}

// TestClaimOfANodeThatComesNext has one node claim an id in a new app, and the
// other just after it has answered that it does not serve it. The first client
// has its id then, also if the second node's clock is slow.
func TestClaimOfANodeThatComesNext(t *testing.T) {
	for i := range 2 {
		for _, after := range []time.Duration{10 * time.Microsecond, 700 * time.Microsecond, 5 * time.Millisecond} {
			play(t, 2, func(sc *scene) {
				sc.meet(sc.nodes...)
				sc.wait(5 * time.Second)
				a, b := sc.nodes[i], sc.nodes[1-i]
				sc.net.setPairDelay(a.url, b.url, 40*time.Millisecond)
				a.r.setClock(int(after/time.Millisecond) * 1000)
				first := a.claim("bob", 10)
				time.Sleep(40*time.Millisecond + after)
				second := b.claim("bob", 11)
				sc.wait(2 * time.Second)
				if !first.has() || !second.lost() || len(second.of(KindHeld, "")) > 0 {
					t.Errorf("%v after the first: %v and %v", after, first.events, second.events)
				}
			})
		}
	}
}

// TestClaimsAtOnce has several nodes claim one id at about the same time, over
// links of random length, in an app that they serve already and in one that is
// new to all of them.
func TestClaimsAtOnce(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for round := range fewer(48, 12) {
		n := 2 + round%4
		warm := round%2 == 0
		start := residents
		if !warm {
			start = play
		}
		start(t, n, func(sc *scene) {
			if !warm {
				sc.meet(sc.nodes...)
				sc.wait(5 * time.Second)
			}
			for i, a := range sc.nodes {
				for _, b := range sc.nodes[:i] {
					sc.net.setPairDelay(a.url, b.url, time.Duration(1+rnd.IntN(120))*time.Millisecond)
				}
			}
			var all []*client
			for i, nd := range sc.nodes {
				all = append(all, nd.claim("bob", byte(i+10)))
				time.Sleep(time.Duration(rnd.IntN(60)) * time.Millisecond * time.Duration(round%3))
			}
			sc.wait(2 * time.Second)
			var winners, losers int
			for _, c := range all {
				if c.has() {
					winners++
				}
				if c.lost() {
					losers++
				}
			}
			if winners != 1 || losers != n-1 {
				for _, c := range all {
					t.Logf("node %d (%s): %v", c.nd.i, c.nd.r.ID().Short(), c.events)
				}
				t.Fatalf("round %d, %d nodes, warm %v: %d have the id, %d lost it", round, n, warm, winners, losers)
			}
		})
	}
}

// TestClaimAmongMany: one of thirty has the id, a message finds it from each of
// the others, and who comes last is served as well.
func TestClaimAmongMany(t *testing.T) {
	n := fewer(30, 12)
	residents(t, n, func(sc *scene) {
		sc.wait(time.Minute) // until each is linked to each
		for _, nd := range sc.nodes {
			if links := nd.r.Stats().Links; links != n-1 {
				t.Fatalf("node %d has %d links", nd.i, links)
			}
		}
		var winner *client
		var all []*client
		for i, nd := range sc.nodes {
			all = append(all, nd.claim("bob", byte(i+100)))
		}
		sc.wait(2 * time.Second)
		for _, c := range all {
			if !c.has() {
				continue
			}
			if winner != nil {
				t.Fatalf("nodes %d and %d both have the id", winner.nd.i, c.nd.i)
			}
			winner = c
		}
		if winner == nil {
			t.Fatal("nobody has the id")
		}
		late := sc.start()
		sc.meet(append(sc.nodes[:1:1], late)...)
		last := late.claim("last", 1)
		sc.wait(5 * time.Second)
		from := []*client{last}
		for i, nd := range sc.nodes[:n] {
			from = append(from, nd.claim(fmt.Sprint("peer-", i), 1))
		}
		sc.wait(time.Second)
		for _, c := range from {
			c.say("bob", 1)
		}
		sc.wait(2 * time.Second)
		for _, c := range from {
			winner.heard(c.id, 1)
		}
	})
}

// TestClaimsInACircle has a node claim an id after it has answered another's claim,
// and a third node far from both claim it at the time of the first. What was
// answered is before what its answerer claims, whatever the clocks say; of the
// other two pairs neither has heard of the other, and their NodeIDs must not make a
// circle of it.
func TestClaimsInACircle(t *testing.T) {
	for _, ahead := range []int{0, 5000} {
		residents(t, 3, func(sc *scene) {
			nodes := slices.Clone(sc.nodes)
			slices.SortFunc(nodes, func(a, b *tnode) int {
				if a.r.ID().Less(b.r.ID()) {
					return -1
				}
				return 1
			})
			second, far, first := nodes[0], nodes[1], nodes[2]
			sc.net.setPairDelay(first.url, second.url, time.Millisecond)
			sc.net.setPairDelay(first.url, far.url, 100*time.Millisecond)
			sc.net.setPairDelay(second.url, far.url, 100*time.Millisecond)
			first.r.setClock(ahead)
			far.r.setClock(ahead)
			a, c := first.claim("bob", 10), far.claim("bob", 11)
			time.Sleep(5 * time.Millisecond)
			b := second.claim("bob", 12)
			sc.wait(2 * time.Second)
			if a.has() == c.has() || !b.lost() {
				t.Errorf("clock ahead by %d ms: %v, %v, %v", ahead, a.events, b.events, c.events)
			}
		})
	}
}

// TestClaimWhileNodesMeet has nodes claim one id at the same time, or at about
// the same time, while they are being linked to each other: each two of them tell
// each other of their claims at another moment. Their clocks may be wrong.
func TestClaimWhileNodesMeet(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 3))
	for round := 0; round < 12; round += fewer(1, 5) {
		after := []time.Duration{0, 200 * time.Millisecond, time.Second, 5 * time.Second}[round%4]
		apart := []int{0, 20, 400}[round%3] // ms at most
		wrong := []int{0, 5000}[round%2]    // likewise
		n := []int{3, 6, 12, fewer(30, 12)}[round/3]
		play(t, n, func(sc *scene) {
			for i, nd := range sc.nodes {
				nd.claim(fmt.Sprintf("resident-%d", i), byte(i))
				for _, b := range sc.nodes[:i] {
					sc.net.setPairDelay(nd.url, b.url, time.Duration(1+rnd.IntN(200))*time.Millisecond)
				}
				nd.r.setClock(rnd.IntN(wrong + 1))
			}
			sc.meet(sc.nodes...)
			sc.wait(after)
			var all []*client
			for i, nd := range sc.nodes {
				all = append(all, nd.claim("bob", byte(i+100)))
				time.Sleep(time.Duration(rnd.IntN(apart+1)) * time.Millisecond / time.Duration(n))
			}
			sc.wait(2 * time.Minute) // until each is linked to each
			winners := 0
			for _, c := range all {
				if c.has() {
					winners++
				}
				if c.has() == c.lost() {
					t.Errorf("node %d: %v", c.nd.i, c.events)
				}
			}
			if winners != 1 {
				t.Errorf("%d nodes, %v after they began to link, claims %d ms apart, clocks wrong by %d ms: %d have the id", n, after, apart, wrong, winners)
			}
		})
	}
}

// setClock has the node make claims as if its clock were ahead.
func (r *Relay) setClock(ms int) { r.claimed.Store(time.Now().UnixMilli() + int64(ms)) }

func TestClaimOfAHeldID(t *testing.T) {
	residents(t, 3, func(sc *scene) {
		first := sc.nodes[0].claim("bob", 1)
		sc.wait(time.Second)
		late := sc.nodes[1].claim("bob", 2)
		sc.wait(time.Second)
		if !first.has() || !late.lost() || len(late.of(KindHeld, "")) != 0 {
			t.Errorf("first %v, late %v", first.events, late.events)
		}
		first.m.Leave()
		if free := sc.nodes[2].claim("bob", 3); free.has() {
			t.Error("a claim did not wait for the linked nodes")
		} else if sc.wait(time.Second); !free.has() {
			t.Error("the id was not free again")
		}
	})
}

// TestClaimWaits: a node that does not answer is waited for, but not for long.
func TestClaimWaits(t *testing.T) {
	residents(t, 2, func(sc *scene) {
		sc.net.setPairDelay(sc.nodes[0].url, sc.nodes[1].url, 3*time.Second)
		c := sc.nodes[0].claim("bob", 1)
		sc.wait(time.Second)
		held := c.of(KindHeld, "")
		if len(held) != 1 || held[0].at > protocol.ClaimWait || held[0].at < protocol.ClaimWait/3 {
			t.Fatalf("held: %v", held)
		}
		issued := sc.nodes[0].claim("tagged", 1, func(c *Claiming) { c.Issued = true })
		if !issued.has() {
			t.Error("an id that the node issued waits")
		}
	})
}

// TestClaimLostLate: nodes that find each other later settle it by the older
// claim, also when there are many.
func TestClaimLostLate(t *testing.T) {
	play(t, 2, func(sc *scene) {
		a, b := sc.nodes[0], sc.nodes[1]
		const n = 3 * tellAtOnce
		var older, younger []*client
		for i := range n {
			older = append(older, a.claim(fmt.Sprintf("id-%d", i), 1))
		}
		sc.wait(700 * time.Millisecond)
		for i := range n {
			younger = append(younger, b.claim(fmt.Sprintf("id-%d", i), 2))
		}
		sc.wait(300 * time.Millisecond)
		moved := a.claim("moved", 9)
		sc.wait(300 * time.Millisecond)
		movedTo := b.claim("moved", 9)
		sc.wait(300 * time.Millisecond)
		if !movedTo.has() {
			t.Fatal("not held before the nodes meet")
		}
		sc.meet(a, b)
		sc.wait(5 * time.Second)
		for i := range n {
			if !older[i].has() || !younger[i].lost() {
				t.Fatalf("id %d: older %v, younger %v", i, older[i].events, younger[i].events)
			}
		}
		if !movedTo.has() || len(moved.of(KindReplaced, "")) != 1 {
			t.Errorf("of one client on two nodes the later counts: %v, %v", moved.events, movedTo.events)
		}
	})
}

func TestClaimMoves(t *testing.T) {
	residents(t, 3, func(sc *scene) {
		old := sc.nodes[0].claim("bob", 1)
		al := sc.nodes[2].claim("al", 2)
		sc.wait(time.Second)
		now := sc.nodes[1].claim("bob", 1)
		sc.wait(time.Second)
		if !now.has() || len(old.of(KindReplaced, "")) != 1 {
			t.Fatalf("old %v, new %v", old.events, now.events)
		}
		if code := al.m.Send(Message{Kind: KindDirect, To: "bob", Payload: []byte("hi"), Wait: true}); code != protocol.CodeOK {
			t.Fatal(code)
		}
		sc.wait(time.Second)
		if len(now.of(KindDirect, "al")) != 1 {
			t.Errorf("not sent to where it is now: %v", now.events)
		}
	})
}

func TestClaimOfADeadNode(t *testing.T) {
	residents(t, 2, func(sc *scene) {
		sc.nodes[0].claim("bob", 1)
		sc.wait(time.Second)
		sc.nodes[0].kill()
		c := sc.nodes[1].claim("bob", 2)
		sc.wait(time.Second)
		if !c.has() {
			t.Errorf("not free after the node died: %v", c.events)
		}
	})
}

// TestClaimWithdrawn: a client that goes before it was told is forgotten.
func TestClaimWithdrawn(t *testing.T) {
	residents(t, 2, func(sc *scene) {
		c := sc.nodes[0].claim("bob", 1)
		c.m.Leave()
		sc.wait(time.Second)
		if len(c.events) != 0 {
			t.Errorf("told after it left: %v", c.events)
		}
		if d := sc.nodes[1].claim("bob", 2); !func() bool { sc.wait(time.Second); return d.has() }() {
			t.Error("a withdrawn claim still counts")
		}
		s := sc.nodes[0].r.swarms[testApp]
		if len(s.claims) != 1 || len(s.claiming) != 0 {
			t.Errorf("%d claims, %d of them open", len(s.claims), len(s.claiming))
		}
	})
}

// TestClaimPartition: links that break and come back, with claims on both sides
// meanwhile.
func TestClaimPartition(t *testing.T) {
	for _, down := range []time.Duration{time.Second, 4 * time.Second, 8 * time.Second, 40 * time.Second} {
		t.Run(down.String(), func(t *testing.T) {
			residents(t, 2, func(sc *scene) {
				a, b := sc.nodes[0], sc.nodes[1]
				sc.net.cut(a.url, b.url)
				synctest.Wait()
				older := b.claim("bob", 2)
				sc.wait(500 * time.Millisecond)
				younger := a.claim("bob", 1)
				sc.wait(down)
				sc.net.heal(a.url, b.url)
				sc.wait(70 * time.Second)
				if older.has() == younger.has() {
					t.Errorf("older %v, younger %v", older.events, younger.events)
				}
			})
		})
	}
}
