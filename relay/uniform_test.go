package relay

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// chiLimit is the chi-square value that a true distribution with df degrees of
// freedom exceeds once in 1,000 times (Wilson and Hilferty).
func chiLimit(df int) float64 {
	const z = 3.0902
	k := float64(df)
	return k * math.Pow(1-2/(9*k)+z*math.Sqrt(2/(9*k)), 3)
}

func chiSquare(observed []int, expected []float64) float64 {
	sum := 0.0
	for i, o := range observed {
		d := float64(o) - expected[i]
		sum += d * d / expected[i]
	}
	return sum
}

func TestChiLimit(t *testing.T) {
	for df, want := range map[int]float64{1: 10.83, 9: 27.88, 199: 267.5} {
		if got := chiLimit(df); math.Abs(got-want) > 0.02*want+0.2 {
			t.Errorf("chiLimit(%d) = %.2f, want %.2f", df, got, want)
		}
	}
}

// TestOffersAreSharedUniformly announces 10,000 offers from all members in turn
// and compares who got them with the uniform choice over the whole swarm.
func TestOffersAreSharedUniformly(t *testing.T) {
	for _, sizes := range [][]int{{5, 5}, {100, 100}, {190, 10}, {2, 2, 2, 2, 2}, {40, 40, 40, 40, 40}, {150, 20, 10, 10, 10}} {
		t.Run(fmt.Sprint(sizes), func(t *testing.T) {
			play(t, len(sizes), func(sc *scene) { shareUniformly(sc, sizes) })
		})
	}
}

func shareUniformly(sc *scene, sizes []int) {
	t := sc.t
	sc.meet(sc.nodes...)
	var members []*client
	for i, n := range sizes {
		for k := range n {
			members = append(members, sc.nodes[i].join(fmt.Sprintf("%d-%d", i, k)))
		}
	}
	sc.wait(3 * time.Second)
	// An answer may let another offer have its turn: each is counted by count
	// as it is taken away.
	answerAll := func(count func(i int, c *client, o got)) {
		for i, c := range members {
			c.mu.Lock()
			events := c.events
			c.events = nil
			c.mu.Unlock()
			for _, o := range events {
				if o.Kind == KindOffer {
					count(i, c, o)
					c.answer(o)
				}
			}
		}
	}
	ignore := func(int, *client, got) {}
	for _, c := range members {
		c.announce(5)
		sc.wait(20 * time.Millisecond)
		answerAll(ignore)
	}
	sc.wait(time.Second)
	answerAll(ignore)

	const per = 5
	rnd := rand.New(rand.NewPCG(7, uint64(len(sizes))))
	received := make([]int, len(members))
	index := make(map[string]int)
	for i, c := range members {
		index[c.id] = i
	}
	crossed, expectCross, total := 0, 0.0, 0
	type given struct {
		to, from string
		announce int
	}
	once := make(map[given]bool)
	// tally counts what arrived and answers it. In a small swarm an offer may
	// wait for its turn, so it is told by its id which announce it is of.
	first := make(map[string]int)
	tally := func(i int, c *client, o got) {
		serial := 0
		fmt.Sscanf(string(o.Ref[len(o.From)+1:]), "%d", &serial)
		if serial <= first[o.From] {
			return
		}
		g := given{c.id, o.From, (serial - 1) / per}
		if once[g] {
			t.Fatalf("%s got two offers of one announce", c.id)
		}
		once[g] = true
		total++
		received[i]++
		if c.nd != members[index[o.From]].nd {
			crossed++
		}
		if o.From == c.id {
			t.Fatal("a member was offered to itself")
		}
	}
	for _, c := range members {
		first[c.id] = c.serial
	}
	for range 10_000 / per {
		from := members[rnd.IntN(len(members))]
		from.announce(per)
		sc.wait(5 * time.Millisecond)
		others := float64(len(members) - sizes[from.nd.i])
		expectCross += float64(min(per, len(members)-1)) * others / float64(len(members)-1)
		answerAll(tally)
	}
	for range 2 {
		sc.wait(2 * time.Second)
		answerAll(tally)
	}
	want := 10_000 / per * min(per, len(members)-1)
	if total != want {
		t.Errorf("%d offers arrived, want all %d", total, want)
	}
	uniform := make([]float64, len(members))
	for i := range uniform {
		uniform[i] = float64(want) / float64(len(members))
	}
	if got, limit := chiSquare(received, uniform), chiLimit(len(members)-1); got > limit {
		t.Errorf("chi-square over members %.1f is over %.1f", got, limit)
	}
	cross := chiSquare([]int{crossed, total - crossed}, []float64{expectCross, float64(total) - expectCross})
	t.Logf("crossed %d of %d, uniform choice %.0f, chi-square %.2f", crossed, total, expectCross, cross)
	if cross > chiLimit(1) {
		t.Errorf("chi-square of the share that crossed %.1f is over %.1f", cross, chiLimit(1))
	}
}
