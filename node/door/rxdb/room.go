package rxdb

import (
	"slices"
	"sync"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/relay"
)

// place is a client's place in a room, and the sink of its relay.Member.
type place struct {
	// Static after join.
	s *session
	m *relay.Member

	mu    sync.Mutex
	early door.Early
	ids   []string // of those who are shown, itself too; nobody else is passed on to it
}

// maxShown is more than MaxRoom because nodes that meet may have a full room
// each.
const maxShown = 2 * MaxRoom

// begin shows those who were there before, then what happened since. It reports
// false when that was too much.
func (p *place) begin(before []relay.Info) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, o := range before {
		p.add(o.ID)
	}
	p.ids = append(p.ids, p.s.id)
	p.show()
	return p.early.Begin(p.take)
}

// Deliver implements relay.Sink.
func (p *place) Deliver(e *relay.Event) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if early, ok := p.early.Keep(e); early {
		return ok
	}
	return p.take(e)
}

// take tells the client of an event. mu is held.
func (p *place) take(e *relay.Event) bool {
	switch e.Kind {
	case relay.KindJoined, relay.KindPresent:
		if p.add(e.From) {
			return p.show()
		}
	case relay.KindLeft, relay.KindLost:
		if i := slices.Index(p.ids, e.From); i >= 0 && e.From != p.s.id {
			p.ids = slices.Delete(p.ids, i, i+1)
			return p.show()
		}
	case relay.KindDirect:
		return p.pass(e)
	case relay.KindFailed:
		p.s.d.dropped.Add(1)
	}
	return true
}

// add reports whether id is news.
func (p *place) add(id string) bool {
	if len(p.ids) >= maxShown || id == p.s.id || !isPeerID(id) || slices.Contains(p.ids, id) {
		return false
	}
	p.ids = append(p.ids, id)
	return true
}

// show tells the client who is in the room.
func (p *place) show() bool {
	b, ok := p.s.c.Begin()
	return ok && p.s.c.End(appendJoined(b, p.ids), door.Reply)
}

// pass gives a signal to the client, as it came. It takes none from somebody it
// does not know.
func (p *place) pass(e *relay.Event) bool {
	if !slices.Contains(p.ids, e.From) || e.Foreign && !isSignal(e.Payload, e.From, p.s.id) {
		p.s.d.dropped.Add(1)
		return true
	}
	b, ok := p.s.c.Begin()
	return ok && p.s.c.End(append(b, e.Payload...), door.Reply)
}
