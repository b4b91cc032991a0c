package relay

import (
	"testing"
	"time"
)

// TestPresenceWantedAgain: all members leave, and others come. A node that had
// stopped to want presence is shown who came meanwhile.
func TestPresenceWantedAgain(t *testing.T) {
	watch := func(j *Joining) { j.Present, j.WantsPresence = true, true }
	for _, pause := range []time.Duration{0, 100 * time.Millisecond, 2 * time.Second} {
		play(t, 2, func(sc *scene) {
			sc.net.setDelay(20 * time.Millisecond)
			sc.meet(sc.nodes...)
			w0, w1 := sc.nodes[0].join("w0", watch), sc.nodes[1].join("w1", watch)
			sc.wait(2 * time.Second)
			w0.m.Leave()
			w1.m.Leave()
			sc.wait(pause)
			a := sc.nodes[0].join("a", watch)
			sc.wait(2 * time.Second)
			b := sc.nodes[1].join("b", watch)
			before := b.m.Members()
			sc.wait(2 * time.Second)
			if n := len(a.of(KindJoined, "b")); n != 1 {
				t.Errorf("after %v: a was told %d times that b came", pause, n)
			}
			n := len(b.of(KindPresent, "a"))
			for _, i := range before {
				if i.ID == "a" {
					n++
				}
			}
			if n != 1 || len(b.of(KindJoined, "a")) > 0 || len(before) > 1 {
				t.Errorf("after %v: b was told %d times that a was there, and before of %d", pause, n, len(before))
			}
		})
	}
}
