package relay

import (
	"encoding/binary"

	"github.com/peerservers/peerserver/protocol"
)

// A client that is a member on several nodes is given a publish by one of them:
// by the one where it joined last, as the node knows it that the publish came
// to. That node tells the others, who may know more by then, or less. So
// who answers what a member said is heard by it once: its node knows of one place
// of that member at least.

// givenAt is where a member is given publishes: behind a link, or here if that is
// nil.
type givenAt struct {
	hash protocol.MemberHash
	at   *link
}

// maxPlaces is more than there are in a small swarm.
const maxPlaces = 2 * protocol.SmallSwarm

// places are those of all known members, none where that is not wanted or they
// are too many.
func (s *swarm) places() []givenAt {
	if s.counted == 0 || len(s.elsewhere)+s.takers > maxPlaces {
		return nil
	}
	list := make([]givenAt, 0, len(s.elsewhere)+s.takers)
	for _, m := range s.members[:s.takers] {
		if !s.isElsewhere(m) {
			list = append(list, givenAt{hash: m.hash})
		}
	}
	for h, homes := range s.elsewhere {
		if m := s.findHash(h); m != nil && !s.isElsewhere(m) {
			continue
		}
		last := &homes[0]
		for i := range homes {
			if p := &homes[i]; p.said > last.said || (p.said == last.said && last.rem.l.node.Less(p.rem.l.node)) {
				last = p
			}
		}
		list = append(list, givenAt{h, last.rem.l})
	}
	return list
}

// elsewhere lists for one node who is given a publish on others, or is not to be
// given it.
func elsewhere(p *heldPublish, l *link) []byte {
	var b []byte
	for _, h := range p.heard {
		b = binary.BigEndian.AppendUint64(b, uint64(h))
	}
	for _, at := range p.places {
		if at.at != l && len(b) < maxPlaces*protocol.MemberHashSize {
			b = binary.BigEndian.AppendUint64(b, uint64(at.hash))
		}
	}
	return b
}

// isGivenElsewhere says whether the node that a publish came from named a member
// of ours. If it named none at all, ours decides.
func (s *swarm) isGivenElsewhere(m *Member, named []byte) bool {
	if len(named) == 0 || len(named) > maxPlaces*protocol.MemberHashSize {
		return s.isElsewhere(m)
	}
	for ; len(named) >= protocol.MemberHashSize; named = named[protocol.MemberHashSize:] {
		if protocol.MemberHash(binary.BigEndian.Uint64(named)) == m.hash {
			return true
		}
	}
	return false
}

// isElsewhere says whether the client of a member is a member on another node
// too, and is given there what it would be given twice. Both nodes say the same:
// they compare what both were told.
func (s *swarm) isElsewhere(m *Member) bool {
	if len(s.elsewhere) == 0 {
		return false
	}
	here := s.r.clock(m.joined)
	for _, p := range s.elsewhere[m.hash] {
		if p.said > here || (p.said == here && s.r.self.Less(p.rem.l.node)) {
			return true
		}
	}
	return false
}

// size is what a publish that is held takes of protocol.HeldBytes.
func (p *heldPublish) size() int64 {
	return int64(len(p.payload) + 16*len(p.places) + protocol.MemberHashSize*len(p.heard))
}
