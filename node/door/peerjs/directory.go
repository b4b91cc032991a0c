package peerjs

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/relay"
)

// maxListed bounds the ids of a key that are listed.
const maxListed = 10_000

// directory lists the ids of one key. It is the sink of a member of its own,
// which nobody is shown: it joins before the key's first client here, so that
// it is told of all of them, and stays.
type directory struct {
	app protocol.AppID // static

	joining sync.Mutex
	joined  time.Time // guarded by joining; zero: it has not

	mu  sync.Mutex
	ids map[string]struct{}
}

// watch joins, unless it has.
func (l *directory) watch(r *relay.Relay) error {
	l.joining.Lock()
	defer l.joining.Unlock()
	if !l.joined.IsZero() {
		return nil
	}
	// No client can have this id, and each node's is another: members with one
	// id would be one.
	_, err := r.Join(l.app, relay.Joining{ID: "*" + r.ID().Tag().String(), Sink: l, WantsPresence: true})
	if err == nil {
		l.joined = time.Now()
	}
	return err
}

// settle gives other nodes the time that a claim gives them, once, and reports
// false when ctx has ended before.
func (l *directory) settle(ctx context.Context) bool {
	l.joining.Lock()
	wait := time.Until(l.joined.Add(protocol.ClaimWait))
	l.joining.Unlock()
	if wait <= 0 {
		return true
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Deliver implements relay.Sink.
func (l *directory) Deliver(e *relay.Event) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch e.Kind {
	case relay.KindJoined, relay.KindPresent:
		if validID(e.From) && len(l.ids) < maxListed {
			l.ids[e.From] = struct{}{}
		}
	case relay.KindLeft, relay.KindLost:
		delete(l.ids, e.From)
	}
	return true
}

// list is the ids there are, in order.
func (l *directory) list() []string {
	l.mu.Lock()
	list := make([]string, 0, len(l.ids))
	for id := range l.ids {
		list = append(list, id)
	}
	l.mu.Unlock()
	slices.Sort(list)
	return list
}
