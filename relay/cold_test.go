package relay

import (
	"fmt"
	"testing"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// TestAppsComeAndGo: apps begin on one node while the other has just said that
// it does not serve them, and are dropped and begun again. No answer is taken
// for one that was not asked for.
func TestAppsComeAndGo(t *testing.T) {
	for delay := range 8 {
		play(t, 2, func(sc *scene) {
			sc.net.setDelay(time.Duration(delay) * 5 * time.Millisecond)
			sc.meet(sc.nodes...)
			sc.wait(time.Second)
			for i := range 30 {
				app := protocol.App("test", fmt.Append(nil, i), nil)
				var both [2]*client
				for k, nd := range sc.nodes {
					c := &client{t: t, id: fmt.Sprint("m", k), nd: nd, start: time.Now()}
					m, err := nd.r.Join(app, Joining{ID: c.id, Sink: c, TakesOffers: true})
					if err != nil {
						t.Fatal(err)
					}
					c.m = m
					both[k] = c
					c.announce(2)
					sc.wait(time.Duration(i*3) * time.Millisecond)
				}
				answered := 0
				for range 40 {
					sc.wait(50 * time.Millisecond)
					for k, c := range both {
						if offers := c.of(KindOffer, ""); len(offers) > 0 && answered == 0 {
							c.answer(offers[0])
							answered = 2 - k
						}
					}
				}
				if answered == 0 || len(both[answered-1].of(KindAnswer, "")) != 1 {
					t.Fatalf("delay %d, app %d: answered by %d, the other got %d answers", delay, i, 2-answered, len(both[max(answered-1, 0)].of(KindAnswer, "")))
				}
				for _, c := range both {
					c.m.Leave()
				}
			}
		})
	}
}
