package native

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/relay"
)

// keeper has the members whose sockets have ended without a Part. Within
// protocol.ResumeWithin a Join takes one over; then it is lost. A node that
// stops waits for none of them: other nodes see them as lost with it.
type keeper struct {
	wake  chan struct{}
	bytes atomic.Int64 // held for all

	mu    sync.Mutex
	open  bool             // Serve runs
	due   []due            // by time; those that were taken over stay in it for as long
	byKey map[kept]*member // that may be taken over
}

type due struct {
	m  *member
	at time.Time
}

// kept names a member of an app.
type kept struct {
	app    protocol.AppID
	member protocol.Member
}

// held is what has come for a member that is kept.
type held struct {
	until    time.Time
	seat     door.Seat
	over     bool // something is missing: the peer cannot resume
	bytes    int
	messages []*protocol.ToPeer
	failing  []relay.Undelivered // the envelopes of messages
}

func newKeeper() *keeper {
	return &keeper{wake: make(chan struct{}, 1), byKey: make(map[kept]*member)}
}

// serve loses members when it is time, until ctx ends.
func (k *keeper) serve(ctx context.Context) {
	k.mu.Lock()
	k.open = true
	k.mu.Unlock()
	t := time.NewTimer(0)
	defer t.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-k.wake:
		case <-t.C:
		}
		t.Reset(k.expire(time.Now()))
	}
	k.mu.Lock()
	k.open, k.due = false, nil
	clear(k.byKey)
	k.mu.Unlock()
}

// add keeps a member, whose holding has begun, and reports false when there is
// no room.
func (k *keeper) add(m *member, until time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.open || len(k.due) >= protocol.KeptMembers {
		return false
	}
	k.byKey[m.kept()] = m
	k.due = append(k.due, due{m, until})
	if len(k.due) == 1 {
		select {
		case k.wake <- struct{}{}:
		default:
		}
	}
	return true
}

// take finds a member that is kept, and forgets it.
func (k *keeper) take(name kept) *member {
	k.mu.Lock()
	defer k.mu.Unlock()
	m := k.byKey[name]
	delete(k.byKey, name)
	return m
}

// count is how many are kept.
func (k *keeper) count() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.byKey)
}

// expire loses those that are due and says when to come again.
func (k *keeper) expire(now time.Time) time.Duration {
	for {
		k.mu.Lock()
		if len(k.due) == 0 {
			k.due = nil
			k.mu.Unlock()
			return time.Hour
		}
		first := k.due[0]
		if wait := first.at.Sub(now); wait > 0 {
			k.mu.Unlock()
			return wait
		}
		k.due[0] = due{}
		k.due = k.due[1:]
		k.mu.Unlock()
		if first.m.lose(now) {
			k.forget(first.m)
		}
	}
}

func (k *keeper) forget(m *member) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.byKey[m.kept()] == m {
		delete(k.byKey, m.kept())
	}
}

// room takes n bytes of what all members may hold together.
func (k *keeper) room(n int) bool {
	if k.bytes.Add(int64(n)) > protocol.KeptAll {
		k.bytes.Add(-int64(n))
		return false
	}
	return true
}
