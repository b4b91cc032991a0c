package signals

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

// Counts are what came of the signals of a run. All below Relayed should be 0.
type Counts struct {
	Sent    uint64
	Relayed uint64 // that all who should have them got

	Lost       uint64 // deliveries that are missing
	Duplicated uint64
	Misrouted  uint64 // to a client that they are not for
	Disordered uint64 // behind a later one of the same sender
	Changed    uint64
	Refused    uint64 // what the server says instead
	Closed     uint64 // connections that the server ended
}

// Wrong is the sum of what should be 0.
func (c *Counts) Wrong() uint64 {
	return c.Lost + c.Duplicated + c.Misrouted + c.Disordered + c.Changed + c.Refused + c.Closed
}

// Add adds those of another run.
func (c *Counts) Add(o Counts) {
	c.Sent, c.Relayed = c.Sent+o.Sent, c.Relayed+o.Relayed
	c.Lost, c.Duplicated, c.Misrouted = c.Lost+o.Lost, c.Duplicated+o.Duplicated, c.Misrouted+o.Misrouted
	c.Disordered, c.Changed = c.Disordered+o.Disordered, c.Changed+o.Changed
	c.Refused, c.Closed = c.Refused+o.Refused, c.Closed+o.Closed
}

// totals are the Counts of a run under way.
type totals struct {
	sent, relayed                                                     atomic.Uint64
	lost, duplicated, misrouted, disordered, changed, refused, closed atomic.Uint64
}

func (t *totals) counts() Counts {
	return Counts{
		Sent: t.sent.Load(), Relayed: t.relayed.Load(),
		Lost: t.lost.Load(), Duplicated: t.duplicated.Load(), Misrouted: t.misrouted.Load(), Disordered: t.disordered.Load(),
		Changed: t.changed.Load(), Refused: t.refused.Load(), Closed: t.closed.Load(),
	}
}

// keep is how many signals of a client are remembered at most. By then they are
// lost.
const keep = 1 << 16

// members is a set of places in a room.
type members uint64

// sent is one signal on its way.
type sent struct {
	due int64   // when it was to be sent
	got members // who has it
}

// ledger is what a client has sent.
type ledger struct {
	want members // who is to get each

	mu   sync.Mutex
	list []sent
	base uint32 // number of list[0]; those before have arrived or are lost
}

// add notes a signal and returns its number.
func (l *ledger) add(due int64, t *totals) (seq uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.list) > 0 && (l.list[0].got == l.want || len(l.list) >= keep) {
		t.lost.Add(l.missing(&l.list[0]))
		l.list, l.base = l.list[1:], l.base+1
	}
	l.list = append(l.list, sent{due: due})
	return l.base + uint32(len(l.list)-1)
}

func (l *ledger) missing(s *sent) uint64 { return uint64(bits.OnesCount64(uint64(l.want &^ s.got))) }

// verdict is what a ledger says of a signal that came.
type verdict uint8

const (
	fine verdict = iota
	whole
	duplicate
	misrouted
)

// deliver notes that a signal came to a place, and says when it was due. It is
// whole when nobody waits for it any more.
func (l *ledger) deliver(seq uint32, place int) (due int64, v verdict) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i, bit := int64(seq)-int64(l.base), members(1)<<place
	switch {
	case i >= int64(len(l.list)), l.want&bit == 0:
		return 0, misrouted
	case i < 0, l.list[i].got&bit != 0:
		return 0, duplicate
	}
	s := &l.list[i]
	if s.got |= bit; s.got == l.want {
		return s.due, whole
	}
	return s.due, fine
}

// open is how many signals not everybody has.
func (l *ledger) open() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.list {
		if l.list[i].got != l.want {
			n++
		}
	}
	return n
}

// close gives up what did not arrive.
func (l *ledger) close(t *totals) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.list {
		t.lost.Add(l.missing(&l.list[i]))
	}
}
