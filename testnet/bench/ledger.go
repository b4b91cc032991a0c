package bench

import (
	"sync"
	"sync/atomic"
)

// Counts are what came of the offers of a run. All below Answers should be 0.
type Counts struct {
	Offers  uint64 `json:"offers"` // sent
	Answers uint64 `json:"answers"`

	OffersLost  uint64 `json:"offers_lost"`
	AnswersLost uint64 `json:"answers_lost"`
	RepliesLost uint64 `json:"replies_lost"` // to announces
	Duplicated  uint64 `json:"duplicated"`
	Misrouted   uint64 `json:"misrouted"`
	Changed     uint64 `json:"changed"`
	Refused     uint64 `json:"refused"` // messages with a failure reason
	Closed      uint64 `json:"closed"`  // connections that the server ended

	// Again are offers that a second member was given, as a server may do for
	// late comers in a small swarm.
	Again uint64 `json:"again"`
}

// Wrong is the sum of what should be 0.
func (c *Counts) Wrong() uint64 {
	return c.OffersLost + c.AnswersLost + c.RepliesLost + c.Duplicated + c.Misrouted + c.Changed + c.Refused + c.Closed
}

// totals are the Counts of a run under way.
type totals struct {
	offers, answers, replies, announces             atomic.Uint64
	duplicated, misrouted, changed                  atomic.Uint64
	refused, closed, again, lostOffers, lostAnswers atomic.Uint64
}

// verdict is what a ledger says of something that came.
type verdict uint8

const (
	fine verdict = iota
	duplicate
	misrouted
	again
)

// keep is how many offers of a client are remembered, at least, once they are
// answered.
const keep = 512

// offered is one offer on its way.
type offered struct {
	due      int64 // when it was to be sent
	taken    int64 // when its receiver answered
	receiver int32 // -1: none yet
	done     bool  // the answer has come
}

// ledger is what a client has offered.
type ledger struct {
	mu    sync.Mutex
	list  []offered
	base  uint32 // sequence of list[0]
	first uint32 // of the last announce
	left  int    // of the last announce, without an answer
	last  int64  // when it was due
}

// add notes the offers of one announce and returns the first one's sequence,
// unless the announce before has to be answered first.
func (l *ledger) add(n int, due int64, must bool, t *totals) (seq uint32, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.left > 0 && !must {
		return 0, false
	}
	for len(l.list) > 0 && (len(l.list) > 64*keep || len(l.list) > 2*keep && l.list[0].done) {
		l.list[0].lose(t)
		l.list, l.base = l.list[1:], l.base+1
	}
	l.first, l.left, l.last = l.base+uint32(len(l.list)), n, due
	for range n {
		l.list = append(l.list, offered{due: due, receiver: -1})
	}
	return l.first, true
}

// lose counts an offer that is given up.
func (o *offered) lose(t *totals) (lost bool) {
	switch {
	case o.receiver < 0:
		t.lostOffers.Add(1)
	case !o.done:
		t.lostAnswers.Add(1)
	default:
		return false
	}
	return true
}

// find is the offer of a sequence. It is nil for one that is not known any
// more, and known is false for one that never was.
func (l *ledger) find(seq uint32) (o *offered, known bool) {
	i := int64(seq) - int64(l.base)
	if i < 0 || i >= int64(len(l.list)) {
		return nil, i < 0
	}
	return &l.list[i], true
}

// deliver notes that an offer came to a receiver, which answers it at now. In
// a small swarm an offer may come to several.
func (l *ledger) deliver(seq uint32, receiver, perAnnounce int, now int64, small bool) (due int64, v verdict) {
	l.mu.Lock()
	defer l.mu.Unlock()
	o, known := l.find(seq)
	switch {
	case !known:
		return 0, misrouted
	case small && (o == nil || o.receiver >= 0 && o.receiver != int32(receiver)):
		return 0, again
	case o == nil || o.receiver >= 0:
		return 0, duplicate
	}
	o.receiver, o.taken = int32(receiver), now
	// The offers of one announce are for distinct members.
	announce := seq - seq%uint32(perAnnounce)
	for s := announce; s < announce+uint32(perAnnounce); s++ {
		if other, _ := l.find(s); !small && other != nil && s != seq && other.receiver == int32(receiver) {
			return o.due, misrouted
		}
	}
	return o.due, fine
}

// answer notes that an answer came, and says when it was sent and when its
// offer was due. More is false when it was the last that the newest announce
// waited for.
func (l *ledger) answer(seq uint32, by int, small bool) (o offered, more bool, v verdict) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, known := l.find(seq)
	switch {
	case !known, p != nil && p.receiver != int32(by) && !small:
		return o, true, misrouted
	case p == nil || p.done:
		return o, true, duplicate
	}
	p.done = true
	if seq >= l.first {
		l.left--
	}
	return *p, seq < l.first || l.left > 0, fine
}

// stalled says whether the last announce waits since before t.
func (l *ledger) stalled(t int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.left > 0 && l.last < t
}

// open is how many offers have no answer.
func (l *ledger) open() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.list {
		if !l.list[i].done {
			n++
		}
	}
	return n
}

// close gives up what has no answer, and says when the first of it was due, -1
// for none.
func (l *ledger) close(t *totals) (due int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	due = -1
	for i := range l.list {
		if o := &l.list[i]; o.lose(t) && due < 0 {
			due = o.due
		}
	}
	return due
}

func (t *totals) counts() Counts {
	return Counts{
		Offers: t.offers.Load(), Answers: t.answers.Load(),
		OffersLost: t.lostOffers.Load(), AnswersLost: t.lostAnswers.Load(),
		RepliesLost: t.announces.Load() - min(t.announces.Load(), t.replies.Load()),
		Duplicated:  t.duplicated.Load() + t.replies.Load() - min(t.announces.Load(), t.replies.Load()),
		Misrouted:   t.misrouted.Load(), Changed: t.changed.Load(), Refused: t.refused.Load(), Closed: t.closed.Load(),
		Again: t.again.Load(),
	}
}
