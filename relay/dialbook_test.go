package relay

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

func dialURL(i int) string { return fmt.Sprintf("wss://n%d.example:443", i) }

// dialAll dials as often as the book allows within d, a new address each time.
func dialAll(b *dialBook, now time.Time, d time.Duration) (count int) {
	for end := now.Add(d); ; count++ {
		addr := dialURL(len(b.addrs))
		ok, wait := b.mayDial(addr, now)
		if ok != (wait == 0) {
			panic("ok and wait disagree")
		}
		now = now.Add(wait)
		if !now.Before(end) {
			return count
		}
		if ok, wait := b.mayDial(addr, now); !ok {
			panic(fmt.Sprint("after the wait it is still ", wait))
		}
		b.dialled(addr, now)
	}
}

func TestDialBookBudget(t *testing.T) {
	now := time.Now()
	// What was saved up, and then one a second.
	if n := dialAll(newDialBook(), now, time.Minute); n != 2*protocol.DialsPerMinute-1 {
		t.Errorf("%d dials in the first minute", n)
	}
	if n := dialAll(newDialBook(), now, time.Nanosecond); n != protocol.DialsPerMinute {
		t.Errorf("%d dials at once", n)
	}
	b := newDialBook()
	dialAll(b, now, time.Minute)
	if n := dialAll(b, now.Add(time.Minute), 10*time.Minute); n != 10*protocol.DialsPerMinute {
		t.Errorf("%d dials in the ten minutes after", n)
	}
	if n := dialAll(b, now.Add(24*time.Hour), time.Nanosecond); n != protocol.DialsPerMinute {
		t.Errorf("%d dials saved up in a day", n)
	}
	b = newDialBook()
	b.trusted = true
	if n := dialAll(b, now, time.Nanosecond); n != protocol.DialsTrusted {
		t.Errorf("%d dials at once where private addresses are allowed", n)
	}
}

// waitOf asks, and checks that the answer is exact.
func waitOf(t *testing.T, b *dialBook, addr string, now time.Time) time.Duration {
	t.Helper()
	_, wait := b.mayDial(addr, now)
	if wait > 0 {
		if ok, _ := b.mayDial(addr, now.Add(wait-1)); ok {
			t.Errorf("%s may be dialled before %v are over", addr, wait)
		}
	}
	if ok, more := b.mayDial(addr, now.Add(wait)); !ok {
		t.Errorf("%s has to wait %v and then %v", addr, wait, more)
	}
	return wait
}

func TestDialBookUnproven(t *testing.T) {
	b, now, addr := newDialBook(), time.Now(), dialURL(0)
	if w := waitOf(t, b, addr, now); w != 0 {
		t.Errorf("a new address waits %v", w)
	}
	b.dialled(addr, now)
	if w := waitOf(t, b, addr, now); w != protocol.DialUnproven {
		t.Errorf("while it is dialled it waits %v", w)
	}
	now = now.Add(time.Minute)
	for range 3 {
		b.failed(addr, now)
	}
	if w := waitOf(t, b, addr, now); w != protocol.DialUnproven-time.Minute {
		t.Errorf("after failures it waits %v", w)
	}
	if w := waitOf(t, b, dialURL(1), now); w != 0 {
		t.Errorf("another address waits %v", w)
	}
}

func TestDialBookBackoff(t *testing.T) {
	for _, trusted := range []bool{false, true} {
		b, now, addr := newDialBook(), time.Now(), dialURL(0)
		b.trusted = trusted
		if !trusted {
			b.dialled(addr, now)
			b.succeeded(addr, now)
		}
		for round := range 2 {
			if w := waitOf(t, b, addr, now); w != 0 {
				t.Errorf("trusted %v, round %d: waits %v after a success", trusted, round, w)
			}
			for i, most := range []time.Duration{
				500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second,
				16 * time.Second, 32 * time.Second, time.Minute, time.Minute, time.Minute,
			} {
				b.dialled(addr, now)
				b.failed(addr, now)
				w := waitOf(t, b, addr, now)
				if w > most || w < most*3/4 {
					t.Errorf("trusted %v: waits %v after %d failures, want up to %v", trusted, w, i+1, most)
				}
				if again := waitOf(t, b, addr, now); again != w {
					t.Errorf("asked twice, the answers are %v and %v", w, again)
				}
				now = now.Add(w)
			}
			now = now.Add(time.Hour)
			b.dialled(addr, now)
			b.failed(addr, now)
			b.succeeded(addr, now) // another dial, such as one that took longer
		}
	}
	// Not in step.
	b, now := newDialBook(), time.Now()
	seen := map[time.Duration]bool{}
	for i := range 20 {
		b.succeeded(dialURL(i), now)
		b.failed(dialURL(i), now)
		seen[waitOf(t, b, dialURL(i), now)] = true
	}
	if len(seen) < 10 {
		t.Errorf("20 nodes have %d different waits", len(seen))
	}
	if w := backoff(1000); w > protocol.DialBackoffMax || w < protocol.DialBackoffMax/2 {
		t.Errorf("after 1,000 failures it waits %v", w)
	}
}

// A node that accepts every link and hangs up does not take the budget of all
// others; one whose link is lost a few times is redialled at once.
func TestDialBookFlapping(t *testing.T) {
	for _, trusted := range []bool{false, true} {
		b, now, addr, dials := newDialBook(), time.Now(), dialURL(0), 0
		b.trusted = trusted
		for end := now.Add(10 * time.Minute); ; dials++ {
			w := waitOf(t, b, addr, now)
			if dials <= flapFree && w != 0 {
				t.Errorf("redial %d waits %v", dials, w)
			}
			now = now.Add(w)
			if !now.Before(end) {
				break
			}
			b.dialled(addr, now)
			b.succeeded(addr, now)
			now = now.Add(time.Second)
		}
		if !trusted && dials > 60 {
			t.Errorf("%d dials in ten minutes", dials)
		}
		if trusted && dials != 600 {
			t.Errorf("trusted: %d dials in ten minutes, want one a second", dials)
		}
		now = now.Add(flapWindow)
		b.dialled(addr, now)
		b.succeeded(addr, now)
		if w := waitOf(t, b, addr, now); w != 0 {
			t.Errorf("after a link that held it waits %v", w)
		}
	}
}

func TestDialBookProven(t *testing.T) {
	b, now := newDialBook(), time.Now()
	for i := range 3 {
		b.dialled(dialURL(i), now)
		b.succeeded(dialURL(i), now)
	}
	b.dialled(dialURL(3), now)
	b.failed(dialURL(3), now)
	b.dialled(dialURL(0), now) // the newest again
	want := []string{dialURL(0), dialURL(2), dialURL(1)}
	if got := b.proven(); !slices.Equal(got, want) {
		t.Errorf("proven are %q, want %q", got, want)
	}
	c := newDialBook()
	c.restore(append([]string{"", "wss://x.example", "ws://name.example:80", "wss://x.example:22", dialURL(0)}, want...))
	if got := c.proven(); !slices.Equal(got, want) {
		t.Errorf("restored are %q, want %q", got, want)
	}
	c.dialled(dialURL(2), now)
	c.failed(dialURL(2), now)
	if w := waitOf(t, c, dialURL(2), now); w > time.Second {
		t.Errorf("a restored address waits %v", w)
	}
}

// Asking fills nothing, dialling strangers never pushes out a proven address,
// and nothing grows without end.
func TestDialBookBounded(t *testing.T) {
	b, now := newDialBook(), time.Now()
	for i := range 2 * protocol.DialBook {
		b.mayDial(dialURL(i), now)
	}
	if len(b.addrs) != 0 {
		t.Errorf("asking left %d entries", len(b.addrs))
	}
	b.dialled("wss://friend.example:443", now)
	b.succeeded("wss://friend.example:443", now)
	for i := range 2 * protocol.DialBook {
		b.dialled(dialURL(i), now)
		b.failed(dialURL(i), now)
	}
	if n := len(b.addrs); n != protocol.DialBook || b.good.Len()+b.tried.Len() != n {
		t.Errorf("%d entries, %d and %d in the lists", n, b.good.Len(), b.tried.Len())
	}
	if got := b.proven(); len(got) != 1 {
		t.Errorf("proven are %q", got)
	}
	if b.addrs[dialURL(2*protocol.DialBook-1)] == nil || b.addrs[dialURL(0)] != nil {
		t.Error("it was not the oldest that was forgotten")
	}
	for i := range 2 * protocol.DialBook {
		b.succeeded(dialURL(i), now)
	}
	if n := len(b.addrs); n != protocol.DialBook || b.good.Len() != n || len(b.proven()) != n {
		t.Errorf("%d entries, %d proven", n, b.good.Len())
	}
	c := newDialBook()
	c.restore(slices.Concat(b.proven(), []string{dialURL(-1)}))
	c.dialled(dialURL(-2), now)
	if n := len(c.addrs); n != protocol.DialBook {
		t.Errorf("%d entries after restore", n)
	}
}
