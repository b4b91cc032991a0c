package relay

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// TestReplyToAClientOnTwoNodes: who answers what a client says that is about to
// join on a second node is heard by it once, however far apart the nodes are and
// whatever they know of the second join by then.
func TestReplyToAClientOnTwoNodes(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	for round := range fewer(100, 10) {
		play(t, 3, func(sc *scene) {
			sc.meet(sc.nodes...)
			at := sc.nodes[rnd.IntN(3)]
			speaker := at.join("speaker", subscriberWho(true))
			for _, nd := range sc.nodes {
				nd.join(fmt.Sprint("other", nd.i), subscriberWho(true))
			}
			sc.wait(5 * time.Second)
			for i, a := range sc.nodes {
				for _, b := range sc.nodes[:i] {
					sc.net.setPairDelay(a.url, b.url, time.Duration(1+rnd.IntN(100))*time.Millisecond)
				}
			}
			one := sc.nodes[round%2].join("twice", subscriberWho(true))
			sc.nodes[round%2].r.Publish(testApp, "twice", []byte("I am here"))
			var two *client
			gap, replied := rnd.IntN(150), 0
			for ms := range 1000 {
				if ms == gap {
					two = sc.nodes[1-round%2].join("twice", subscriberWho(true))
					sc.nodes[1-round%2].r.Publish(testApp, "twice", []byte("I am here"))
				}
				if replied == 0 && len(speaker.of(KindPublish, "twice")) > 0 {
					at.r.Publish(testApp, "speaker", []byte("hello"))
					replied++
				}
				time.Sleep(time.Millisecond)
			}
			if n, k := len(one.of(KindPublish, "speaker")), len(two.of(KindPublish, "speaker")); n+k != replied || replied != 1 {
				t.Errorf("round %d: %d here, %d there of %d", round, n, k, replied)
			}
		})
	}
}

// TestPlacesAreBounded: what another node names is only looked at as far as there
// can be so many.
func TestPlacesAreBounded(t *testing.T) {
	s := &swarm{}
	m := &Member{hash: 7}
	for name, test := range map[string]struct {
		named []byte
		want  bool
	}{
		"nobody":       {nil, false},
		"it":           {m.hash.Bytes(), true},
		"another":      {(m.hash + 1).Bytes(), false},
		"it, cut off":  {m.hash.Bytes()[:7], false},
		"it and more":  {append(m.hash.Bytes(), 1, 2, 3), true},
		"it, too late": {append(make([]byte, maxPlaces*8), m.hash.Bytes()...), false},
	} {
		if got := s.isGivenElsewhere(m, test.named); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
