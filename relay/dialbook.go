package relay

import (
	"container/list"
	"math/rand/v2"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

const (
	dialBackoffMin = 500 * time.Millisecond // after the first failure
	// A proven address is redialled at once after its link is lost, but one
	// whose links keep ending within flapWindow only flapFree times: else a
	// node that accepts and hangs up takes the whole budget.
	flapWindow = time.Minute
	flapFree   = 8
)

// dialBook remembers what was dialled and says what may be dialled next. Its
// user guards it. An address is a LinkURL.String.
//
// All dials together keep to protocol.DialsPerMinute, with that many saved up
// at most. An address where no handshake has ever succeeded is dialled once in
// protocol.DialUnproven: it may be of somebody who never asked for us. One
// where it has succeeded is proven and is dialled again after 0, 0.5, 1, 2, 4
// ... 60 s of consecutive failures, less up to a quarter so that nodes do not
// go in step.
//
// Only what was dialled is remembered, so nobody fills the book with hearsay.
// When it is full, the unproven address that was dialled longest ago goes, or
// else the proven one.
type dialBook struct {
	trusted bool // where private addresses are allowed: a tenfold budget, and unproven is as good as proven

	next  time.Time // when the last saved-up dial will have been paid for
	addrs map[string]*list.Element
	good  *list.List // of *dialEntry: proven, newest first
	tried *list.List // the others
}

type dialEntry struct {
	addr    string
	proven  bool
	dialled time.Time
	after   time.Time // of proven: not before
	fails   int       // in a row
	flaps   int       // successes in a row, each within flapWindow of the one before
	won     time.Time // the last success
}

func newDialBook() *dialBook {
	return &dialBook{addrs: make(map[string]*list.Element), good: list.New(), tried: list.New()}
}

// mayDial says whether addr may be dialled now, or how long to wait before
// asking again. It takes nothing from the budget: dialled does.
func (b *dialBook) mayDial(addr string, now time.Time) (ok bool, wait time.Duration) {
	cost, saved := b.budget()
	wait = max(0, b.next.Add(cost-saved).Sub(now))
	if el := b.addrs[addr]; el != nil {
		e := el.Value.(*dialEntry)
		after := e.after
		if !e.proven && !b.trusted {
			after = e.dialled.Add(protocol.DialUnproven)
		}
		wait = max(wait, after.Sub(now))
	}
	return wait == 0, wait
}

// budget is the time that one dial costs, and the most that can be saved up.
func (b *dialBook) budget() (cost, saved time.Duration) {
	if b.trusted {
		return time.Minute / protocol.DialsTrusted, time.Minute
	}
	return time.Minute / protocol.DialsPerMinute, time.Minute
}

// dialled says that a dial begins.
func (b *dialBook) dialled(addr string, now time.Time) {
	cost, _ := b.budget()
	if b.next.Before(now) {
		b.next = now
	}
	b.next = b.next.Add(cost)
	b.entry(addr).dialled = now
}

// succeeded says that a handshake at addr was completed.
func (b *dialBook) succeeded(addr string, now time.Time) {
	e := b.entry(addr)
	if !e.won.IsZero() && now.Sub(e.won) < flapWindow {
		e.flaps++
	} else {
		e.flaps = 0
	}
	e.won, e.fails, e.after = now, 0, now
	if e.flaps >= flapFree && !b.trusted {
		e.after = now.Add(backoff(e.flaps - flapFree + 1))
	}
	if !e.proven {
		e.proven = true
		b.tried.Remove(b.addrs[addr])
		b.addrs[addr] = b.good.PushFront(e)
	}
}

// failed says that a dial, or the handshake after it, did not succeed.
func (b *dialBook) failed(addr string, now time.Time) {
	e := b.entry(addr)
	e.fails++
	n := e.fails
	if !b.trusted {
		n = max(n, e.flaps-flapFree+1)
	}
	e.after = now.Add(backoff(n))
}

// backoff is the wait after n failures.
func backoff(n int) time.Duration {
	d := protocol.DialBackoffMax
	if n < 8 { // 0.5 s << 7 is over a minute
		d = min(d, dialBackoffMin<<(n-1))
	}
	return d - rand.N(d/4)
}

// entry is that of addr, made when there is none, and now the newest.
func (b *dialBook) entry(addr string) *dialEntry {
	el := b.addrs[addr]
	if el == nil {
		if len(b.addrs) >= protocol.DialBook {
			b.forget()
		}
		e := &dialEntry{addr: addr}
		b.addrs[addr] = b.tried.PushFront(e)
		return e
	}
	e := el.Value.(*dialEntry)
	if e.proven {
		b.good.MoveToFront(el)
	} else {
		b.tried.MoveToFront(el)
	}
	return e
}

func (b *dialBook) forget() {
	from := b.tried
	if from.Len() == 0 {
		from = b.good
	}
	e := from.Remove(from.Back()).(*dialEntry)
	delete(b.addrs, e.addr)
}

// proven lists the addresses where a handshake has succeeded, newest first,
// for restore after the next start.
func (b *dialBook) proven() []string {
	addrs := make([]string, 0, b.good.Len())
	for el := b.good.Front(); el != nil; el = el.Next() {
		addrs = append(addrs, el.Value.(*dialEntry).addr)
	}
	return addrs
}

// restore takes what proven returned. What is no address, or too much, is left
// out.
func (b *dialBook) restore(addrs []string) {
	for _, addr := range addrs {
		u, err := protocol.ParseLinkURL(addr)
		if err != nil || u.String() != addr || b.addrs[addr] != nil {
			continue
		}
		if len(b.addrs) >= protocol.DialBook {
			return
		}
		b.addrs[addr] = b.good.PushBack(&dialEntry{addr: addr, proven: true})
	}
}
