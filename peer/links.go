package peer

import (
	"bytes"
	"context"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/peerservers/peerserver/protocol"
)

// maxLinks bounds what a peer says of whom it is connected to.
const maxLinks = 100

// Link is somebody whom a peer says that it is connected to, and how.
type Link struct {
	Member protocol.Member
	Name   string // what that one calls itself
	Path   Path
}

type link struct {
	name string
	path Path
}

// Links are those whom the peer says that it is connected to, ordered by id. A
// peer tells of at most 100.
func (p *Peer) Links() []Link {
	p.r.mu.Lock()
	list := make([]Link, 0, len(p.links))
	for id, l := range p.links {
		list = append(list, Link{id, l.name, l.path})
	}
	p.r.mu.Unlock()
	slices.SortFunc(list, func(a, b Link) int { return bytes.Compare(a.Member.Bytes(), b.Member.Bytes()) })
	return list
}

// announce has all peers told how p is connected, and p told of all.
func (r *Room) announce(p *Peer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for q := range r.peers {
		if q == p {
			continue
		}
		q.note(p.member())
		if _, listed := r.peers[p]; listed {
			p.note(q.member())
		}
	}
}

// note has the peer told of somebody, with r.mu held.
func (p *Peer) note(id protocol.Member) {
	p.dirty[id] = struct{}{}
	select {
	case p.news <- struct{}{}:
	default:
	}
}

// tellLinks says of whom it has to be said how they are connected now.
func (p *Peer) tellLinks(ctx context.Context, told map[protocol.Member]Path) error {
	p.r.mu.Lock()
	dirty := p.dirty
	if len(dirty) == 0 {
		p.r.mu.Unlock()
		return nil
	}
	p.dirty = make(map[protocol.Member]struct{})
	now := make(map[protocol.Member]*Peer)
	for q := range p.r.peers {
		if _, ok := dirty[q.member()]; ok {
			now[q.member()] = q
		}
	}
	p.r.mu.Unlock()
	for id := range dirty {
		q := now[id]
		before, was := told[id]
		var c *protocol.Control
		switch {
		case q == nil && was:
			delete(told, id)
			c = &protocol.Control{Body: &protocol.Control_Unlinked{Unlinked: &protocol.Unlinked{Member: id.Bytes()}}}
		case q != nil && (was || len(told) < maxLinks) && q.Path() != before:
			told[id] = q.Path()
			l := &protocol.Linked{Presence: q.presence.Signed, Path: protocol.Path(told[id])}
			c = &protocol.Control{Body: &protocol.Control_Linked{Linked: l}}
		default:
			continue
		}
		if err := p.control(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// linked takes in that a peer is connected to somebody. Who is shown only by
// peers is connected to as well; the lower of the two makes the offer.
func (r *Room) linked(p *Peer, l *protocol.Linked) {
	path := Path(l.GetPath())
	presence, err := r.verified(l.GetPresence())
	if err != nil || path < PathDirect || path > PathNodes || presence.Member == r.self || presence.Member == p.member() {
		r.log.Debug("a link is not believed")
		return
	}
	r.mu.Lock()
	if _, listed := r.peers[p]; !listed {
		r.mu.Unlock()
		return
	}
	_, known := p.links[presence.Member]
	m := r.members[presence.Member]
	if !known && len(p.links) < maxLinks && m == nil {
		m = r.remember(presence.Member)
	}
	if m == nil || !known && len(p.links) >= maxLinks {
		r.mu.Unlock()
		return
	}
	m.shows(presence)
	p.links[presence.Member] = link{presence.Name, path}
	first := !known && !m.isThere()
	if !known {
		m.by++
	}
	r.mu.Unlock()
	if !first {
		return
	}
	if m.lower {
		m.post(note{kind: noteNews})
	} else {
		m.post(note{kind: noteWait})
	}
}

// verified is a presence that verifies. One that is known is not verified again.
func (r *Room) verified(s *protocol.SignedPresence) (*protocol.PeerPresence, error) {
	var b protocol.PresenceBody
	if len(s.GetKey()) == len(protocol.PeerID{}) && proto.Unmarshal(s.GetBody(), &b) == nil && len(b.Session) == len(protocol.Session{}) {
		id := protocol.Member{Peer: protocol.PeerID(s.Key), Session: protocol.Session(b.Session)}
		r.mu.Lock()
		m := r.members[id]
		var known *protocol.PeerPresence
		if m != nil {
			known = m.presence
		}
		r.mu.Unlock()
		if known != nil && bytes.Equal(known.Signed.Body, s.Body) && bytes.Equal(known.Signed.Signature, s.Signature) {
			return known, nil
		}
	}
	return s.Verify(r.app)
}

// unlinked takes in that a peer is connected to somebody no more.
func (r *Room) unlinked(p *Peer, u *protocol.Unlinked) {
	id, err := protocol.ParseMember(u.GetMember())
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := p.links[id]; known {
		delete(p.links, id)
		r.hides(id)
	}
}

// hides counts that one peer less shows a member, with mu held.
func (r *Room) hides(id protocol.Member) {
	if m := r.members[id]; m != nil && m.by > 0 {
		m.by--
	}
}

// unlist takes a peer that has ended off all lists.
func (r *Room) unlist(p *Peer) {
	r.mu.Lock()
	delete(r.peers, p)
	p.m.connected, p.m.pieces = false, nil
	links := maps.Clone(p.links)
	clear(p.links)
	for id := range links {
		r.hides(id)
	}
	r.mu.Unlock()
	r.announce(p)
}
