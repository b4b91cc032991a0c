package matchbox

import (
	"sync"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/relay"
)

// place is a client's place in a room, and the sink of its relay.Member.
type place struct {
	// Static after enterRoom.
	s *session
	m *relay.Member

	mu    sync.Mutex
	early door.Early

	// The others by id, and by what the client calls them. The two differ for one
	// whose node was lost and has come back: no id comes back on the library's
	// server, and a client takes no offer from one that it was connected to.
	names, ids map[string]string
	lost       map[string]bool // that may come back
}

// maxShown is more than MaxRoom because nodes that meet may have a full room
// each.
const maxShown = 2 * MaxRoom

func newPlace(s *session) *place {
	return &place{s: s, names: map[string]string{s.id: s.id}, ids: map[string]string{s.id: s.id}}
}

// enterRoom makes the client a member of a room.
func (s *session) enterRoom(name string) {
	app := protocol.App(Name, []byte(name), nil)
	if !s.admit(s.d.cfg.Relay.Audience(app)) {
		return
	}
	p := newPlace(s)
	m, err := s.d.cfg.Relay.Join(app, relay.Joining{
		ID: s.id, Sink: p, Present: true, WantsPresence: true, TakesOffers: true, Subscriber: true, // to be counted
	})
	if err != nil {
		s.c.DropMember()
		s.refuse(err)
		return
	}
	p.m, s.in = m, p
	before := m.Members() // of members elsewhere this is what the relay knows best
	switch {
	case len(before) >= MaxRoom:
		s.full()
	case !p.begin(before):
		s.disconnect(protocol.CloseTryAgainLater, "too much at once; try again")
	}
}

// send implements room.
func (p *place) send(_ *session, to string, data []byte) bool {
	p.mu.Lock()
	id := p.ids[to]
	p.mu.Unlock()
	return id != "" && p.m.Send(relay.Message{Kind: relay.KindDirect, To: id, Payload: data}) == protocol.CodeOK
}

// leave implements room.
func (p *place) leave(*session) { p.m.Leave() }

// begin tells the client who it is, now that it is there: who comes after that
// comes after it in the room as well. Those who were before are taken in, then what
// happened since. It reports false when that was too much.
func (p *place) begin(before []relay.Info) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.s.tell("IdAssigned", p.s.id)
	for _, o := range before {
		p.add(o.ID)
	}
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

// take tells the client of an event. Of those who were there before it, it is
// not told: they send it offers, and of two one alone is to. mu is held.
func (p *place) take(e *relay.Event) bool {
	switch e.Kind {
	case relay.KindJoined:
		if p.add(e.From) {
			return p.s.tell("NewPeer", p.names[e.From])
		}
	case relay.KindPresent:
		p.add(e.From)
	case relay.KindLeft, relay.KindLost:
		if name := p.remove(e.From, e.Kind == relay.KindLost); name != "" {
			return p.s.tell("PeerLeft", name)
		}
	case relay.KindDirect:
		if name := p.names[e.From]; name != "" && (!e.Foreign || isData(e.Payload)) {
			return p.s.pass(name, e.Payload)
		}
		p.s.d.dropped.Add(1)
	case relay.KindFailed:
		p.s.d.dropped.Add(1)
	}
	return true
}

// add reports whether id is news.
func (p *place) add(id string) bool {
	if len(p.names) >= maxShown || p.names[id] != "" || !isPeerID(id) {
		return false
	}
	name := id
	if p.lost[id] {
		delete(p.lost, id)
		name = newUUID()
	}
	p.names[id], p.ids[name] = name, id
	return true
}

// remove returns what the client calls an id that has gone, "" for one that it
// does not know.
func (p *place) remove(id string, lost bool) string {
	name := p.names[id]
	if name == "" || id == p.s.id {
		return ""
	}
	delete(p.names, id)
	delete(p.ids, name)
	if lost {
		if p.lost == nil || len(p.lost) >= maxShown {
			p.lost = make(map[string]bool)
		}
		p.lost[id] = true
	}
	return name
}
