package relay

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// TestStorm cuts, resets and delays links at random while members come, go,
// announce, answer and publish. Whatever happens: no offer reaches a member
// twice, no answer and no publish is seen twice, the order between two members
// holds, and when it is over every node knows the same swarm.
func TestStorm(t *testing.T) {
	for seed := range uint64(fewer(12, 3)) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			play(t, 4, func(sc *scene) { storm(sc, rand.New(rand.NewPCG(seed, 99))) })
		})
	}
}

func storm(sc *scene, rnd *rand.Rand) {
	all := func(j *Joining) { j.Subscriber, j.Present, j.WantsPresence = true, true, true }
	sc.net.setDelay(time.Duration(rnd.IntN(40)) * time.Millisecond)
	var faults sync.Mutex // the links' goroutines share what follows
	dice := rand.New(rand.NewPCG(rnd.Uint64(), 1))
	sc.net.hook(func(_, _ string, _ int, _ []byte) action {
		faults.Lock()
		defer faults.Unlock()
		switch dice.IntN(60) {
		case 0:
			return cutBefore
		case 1:
			return cutAfter
		}
		return pass
	})
	sc.meet(sc.nodes...)
	var live, every []*client
	serial, answered := 0, make(map[*client]int)
	join := func() {
		serial++
		c := sc.nodes[rnd.IntN(len(sc.nodes))].join(fmt.Sprint("m", serial), all)
		live, every = append(live, c), append(every, c)
		c.announce(2)
	}
	for range 6 {
		join()
	}
	type pair struct{ from, to string }
	sent := make(map[pair]int)
	for range 600 {
		c := live[rnd.IntN(len(live))]
		switch rnd.IntN(8) {
		case 0:
			if len(live) < 12 {
				join()
			}
		case 1:
			if len(live) > 4 {
				c.m.Leave()
				for i := range live {
					if live[i] == c {
						live = append(live[:i], live[i+1:]...)
						break
					}
				}
			}
		case 2:
			c.announce(2)
		case 3:
			serial++
			c.m.Publish(fmt.Appendf(nil, "%s pub %d", c.id, serial))
		case 4, 5:
			to := live[rnd.IntN(len(live))]
			if to != c {
				p := pair{c.id, to.id}
				if c.m.Send(Message{Kind: KindDirect, To: to.id, Payload: fmt.Append(nil, sent[p])}) == protocol.CodeOK {
					sent[p]++
				}
			}
		case 6:
			a, b := sc.nodes[rnd.IntN(4)], sc.nodes[rnd.IntN(4)]
			if a != b {
				sc.net.drop(a.url, b.url)
			}
		}
		for _, c := range live {
			offers := c.of(KindOffer, "")
			for ; answered[c] < len(offers); answered[c]++ {
				c.answer(offers[answered[c]])
			}
		}
		sc.wait(time.Duration(rnd.IntN(120)) * time.Millisecond)
	}
	sc.net.hook(nil)
	sc.wait(40 * time.Second)
	checkStorm(sc.t, every)
	for _, c := range live {
		if got := c.m.Counts(); got.Incomplete != len(live) {
			for _, nd := range sc.nodes {
				for id, n := range nd.r.mesh.nodes {
					ok, wait := nd.r.mesh.book.mayDial(n.record.URLs[0], time.Now())
					sc.t.Logf("node %d knows %s %v apps %d dials %v dialling %d may %v %v", nd.i, id.Short(), n.record.URLs, len(n.apps), n.dials, nd.r.mesh.dialling, ok, wait)
				}
				for _, l := range nd.r.links {
					sc.t.Logf("node %d: link up %v, %d remotes, seq %d seen %d out %d", nd.i, l.isUp(), len(l.remotes), l.seq, l.seen, len(l.out))
					for _, rem := range l.remotes {
						sc.t.Logf("   %d members, told %v theirs %d list %d", rem.members, rem.told, rem.theirs, len(rem.list))
					}
				}
			}
		}
		if got := c.m.Counts(); got.Incomplete != len(live) {
			sc.t.Errorf("%s on node %d counts %d members, there are %d", c.id, c.nd.i, got.Incomplete, len(live))
		}
	}
}

func checkStorm(t *testing.T, every []*client) {
	for _, c := range every {
		seen := make(map[string]int)
		last := make(map[string]int)
		for _, e := range c.events {
			switch e.Kind {
			case KindOffer, KindAnswer:
				seen[fmt.Sprint(e.Kind, e.From, string(e.Ref))]++
				if e.From == c.id {
					t.Errorf("%s got something of its own", c.id)
				}
			case KindPublish:
				seen[fmt.Sprint(e.Kind, string(e.Payload))]++
			case KindDirect:
				n := 0
				fmt.Sscan(string(e.Payload), &n)
				if before, ok := last[e.From]; ok && n <= before {
					t.Errorf("%s got message %d of %s after %d", c.id, n, e.From, before)
				}
				last[e.From] = n
			}
		}
		for what, n := range seen {
			if n > 1 {
				t.Errorf("%s got %q %d times", c.id, what, n)
				for _, e := range c.events {
					if fmt.Sprint(e.Kind, e.From, string(e.Ref)) == what {
						t.Logf("   on node %d at %v", c.nd.i, c.start.Add(e.at).Format("15:04:05.000"))
					}
				}
			}
		}
	}
}
