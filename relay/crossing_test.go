package relay

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// TestFirstPublishesThatCross has two clients on two nodes subscribe and publish
// at about the same time. As on one server, one of them hears the other, never
// both and never none: the earlier hears the later, but for those that crossed, or
// that nodes without other members hold for each other.
func TestFirstPublishesThatCross(t *testing.T) {
	const way = 20 * time.Millisecond
	for _, how := range []string{"linked", "crowded", "strangers"} {
		for apart := -6 * way; apart <= 6*way; apart += way / 4 {
			t.Run(fmt.Sprintf("%s, B %v after A", how, apart), func(t *testing.T) {
				play(t, 2, func(sc *scene) {
					sc.net.setDelay(way)
					if how != "strangers" {
						sc.meet(sc.nodes...)
						for _, nd := range sc.nodes {
							c := nd.join(fmt.Sprint("before", nd.i), subscriberWho(true))
							if how == "linked" {
								c.m.Leave()
							}
						}
						sc.wait(5 * time.Second)
					}
					var members [2]*client
					var all sync.WaitGroup
					for i, after := range []time.Duration{max(-apart, 0), max(apart, 0)} {
						all.Go(func() {
							time.Sleep(after)
							id := []string{"a", "b"}[i]
							members[i] = sc.nodes[i].join(id, subscriberWho(true))
							sc.nodes[i].r.Publish(testApp, id, []byte("here"))
						})
					}
					all.Wait()
					if how == "strangers" {
						sc.meet(sc.nodes...)
					}
					sc.wait(10 * time.Second)
					a, b := len(members[0].of(KindPublish, "b")), len(members[1].of(KindPublish, "a"))
					if a+b != 1 {
						t.Errorf("A heard %d, B heard %d, want one of them one", a, b)
					}
					if how == "crowded" && (apart > 3*way && a != 1 || apart < -3*way && b != 1) {
						t.Errorf("the earlier did not hear the later: A heard %d, B heard %d", a, b)
					}
					// Whatever they say from then on both hear.
					for i, id := range []string{"a", "b"} {
						sc.nodes[i].r.Publish(testApp, id, []byte("more"))
					}
					sc.wait(time.Second)
					if n, k := len(members[0].of(KindPublish, "b")), len(members[1].of(KindPublish, "a")); n+k != 3 || n == 0 || k == 0 {
						t.Errorf("A heard %d in all, B %d", n, k)
					}
				})
			})
		}
	}
}

// TestFirstPublishBetween: one that comes to a client between its subscription and
// the publish that it sent with it has crossed that too.
func TestFirstPublishBetween(t *testing.T) {
	for _, pause := range []time.Duration{time.Millisecond, 30 * time.Millisecond} {
		for which := range 2 {
			residentsWhoCount(t, func(sc *scene) {
				b := sc.nodes[which].join("b", subscriberWho(true))
				a := sc.nodes[1-which].join("a", subscriberWho(true))
				sc.nodes[1-which].r.Publish(testApp, "a", []byte("here"))
				sc.wait(pause)
				if len(b.of(KindPublish, "a")) != 1 {
					t.Fatal("not given meanwhile")
				}
				sc.nodes[which].r.Publish(testApp, "b", []byte("here"))
				sc.wait(time.Second)
				if n := len(a.of(KindPublish, "b")); n != 0 {
					t.Errorf("both are given the other's: %d", n)
				}
				sc.nodes[which].r.Publish(testApp, "b", []byte("more"))
				sc.wait(time.Second)
				if n := len(a.of(KindPublish, "b")); n != 1 {
					t.Errorf("what comes later is given %d times", n)
				}
			})
		}
	}
}

// residentsWhoCount plays two nodes that are linked and have a subscriber each.
func residentsWhoCount(t *testing.T, f func(sc *scene)) {
	t.Helper()
	play(t, 2, func(sc *scene) {
		sc.meet(sc.nodes...)
		for _, nd := range sc.nodes {
			nd.join(fmt.Sprint("before", nd.i), subscriberWho(true))
		}
		sc.wait(5 * time.Second)
		f(sc)
	})
}
