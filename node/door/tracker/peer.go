package tracker

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/node/door/scan"
	"github.com/peerservers/peerserver/relay"
)

// peer is one peer_id in one swarm, and the sink of its member.
type peer struct {
	// Static after join.
	d   *Door
	c   *door.Conn
	key key
	m   *relay.Member

	gone  atomic.Bool           // another socket has joined with the same ids
	early atomic.Pointer[early] // what came before the reply to the join, nil after it

	// Guarded by session.mu.
	seeder bool
	told   time.Duration // the interval of the last reply
	heard  int64         // when the last message came, unix ns
}

// early keeps what a peer is sent from the moment that it is a member until the
// reply to its announce is queued, since the reply comes first.
type early struct {
	mu     sync.Mutex
	events []relay.Event // copies
	over   bool
}

// maxEarly is far more than comes in the microseconds that it takes.
const maxEarly = 32

// keep reports false when it is too late: the reply is out.
func (y *early) keep(e *relay.Event) (kept, ok bool) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.over {
		return false, false
	}
	if len(y.events) == maxEarly {
		return true, false
	}
	y.events = append(y.events, relay.Event{Kind: e.Kind, Foreign: e.Foreign, From: e.From, Ref: slices.Clone(e.Ref), Payload: slices.Clone(e.Payload)})
	return true, true
}

// replied lets through what came early.
func (p *peer) replied() {
	y := p.early.Load()
	if y == nil {
		return
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	for i := range y.events {
		p.write(&y.events[i])
	}
	y.events, y.over = nil, true
	p.early.Store(nil)
}

// Deliver implements relay.Sink.
func (p *peer) Deliver(e *relay.Event) bool {
	if y := p.early.Load(); y != nil && e.Kind != relay.KindReplaced {
		if kept, ok := y.keep(e); kept {
			return ok
		}
	}
	return p.write(e)
}

func (p *peer) write(e *relay.Event) bool {
	switch e.Kind {
	case relay.KindOffer:
		return p.pass(`{"action":"announce","offer":`, e, door.Offer)
	case relay.KindAnswer:
		return p.pass(`{"action":"announce","answer":`, e, door.Reply)
	case relay.KindReplaced:
		p.gone.Store(true)
		return true
	}
	return false
}

// pass writes what another peer sent.
func (p *peer) pass(start string, e *relay.Event, class door.Class) bool {
	// Another node's word is no proof that this is JSON.
	if e.Foreign && (len(e.From) != len(id{}) || !scan.Valid(e.Payload)) {
		return false
	}
	b, ok := p.c.Begin()
	if !ok {
		return false
	}
	b = append(b, start...)
	b = append(b, e.Payload...)
	b = append(b, `,"offer_id":`...)
	b = appendString(b, e.Ref)
	b = append(b, `,"peer_id":`...)
	b = appendString(b, e.From)
	b = append(b, `,"info_hash":`...)
	b = appendString(b, p.key.hash[:])
	return p.c.End(append(b, '}'), class)
}

func (p *peer) seed() {
	p.d.count(p, -1)
	p.seeder = true
	p.d.count(p, 1)
	p.m.Seed()
}

// find, add and remove are called with mu held.
func (s *session) find(k *key) *peer {
	if s.index != nil {
		return s.index[*k]
	}
	for _, p := range s.peers {
		if p.key == *k {
			return p
		}
	}
	return nil
}

func (s *session) add(p *peer) {
	s.d.count(p, 1)
	s.peers = append(s.peers, p)
	if s.index != nil {
		s.index[p.key] = p
	} else if len(s.peers) > indexAbove {
		s.index = make(map[key]*peer)
		for _, p := range s.peers {
			s.index[p.key] = p
		}
	}
}

// remove forgets a peer that has left.
func (s *session) remove(p *peer) {
	last := len(s.peers) - 1
	for i := last; i >= 0; i-- {
		if s.peers[i] != p {
			continue
		}
		s.peers[i], s.peers[last] = s.peers[last], nil
		s.peers = s.peers[:last]
		if s.index != nil {
			delete(s.index, p.key)
		}
		if last == 0 {
			s.index = nil
		}
		s.c.DropMember()
		s.d.count(p, -1)
		return
	}
}
