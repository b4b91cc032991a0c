package relay

import (
	"slices"

	"github.com/peerservers/peerserver/protocol"
)

// maxPresent bounds the members that other nodes may show of one app.
const maxPresent = 10_000

// presence is a member that other nodes show: one, or several when its client
// is connected to more than one.
type presence struct {
	places []shown // oldest join first
}

type shown struct {
	home
	blob      []byte
	seq, seen uint64  // of the frame that said so
	age       instant // as written in it
}

// orphan is a node that has forgotten those it showed; they leave when due.
type orphan struct {
	rem *remote
	due instant
}

// sentJoin is what a join of ours said on one link.
type sentJoin struct {
	seq, seen uint64
	age       instant
}

// Info is a member as presence shows it.
type Info struct {
	ID   string
	Blob []byte
	Node protocol.NodeID // that it is on
}

// Members are the present members that came before this one; later ones are
// told by KindJoined, and those learnt of later by KindPresent.
func (m *Member) Members() []Info {
	var list []Info
	m.before(func(i Info) { list = append(list, i) })
	return list
}

// Sample is n of Members at most, chosen at random, and how many they are.
func (m *Member) Sample(n int) ([]Info, int) {
	var list []Info
	all := 0
	m.before(func(i Info) {
		all++
		if len(list) < n {
			list = append(list, i)
		} else if k := m.s.rnd.IntN(all); k < n {
			list[k] = i
		}
	})
	return list, all
}

// before calls do, under the swarm's lock, for each member of Members.
func (m *Member) before(do func(Info)) {
	s := m.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.members {
		if o != m && o.flags.has(present) && o.joined <= m.joined {
			do(Info{o.id, o.blob, s.r.self})
		}
	}
	for id, p := range s.present {
		if s.find(id) == nil && !s.later(m, id, &p.places[0]) {
			last := &p.places[len(p.places)-1]
			do(Info{id, last.blob, last.rem.l.node})
		}
	}
}

// Show replaces the member's blob, for those who come from now on; who is
// there already is told nothing.
func (m *Member) Show(blob []byte) error {
	if len(blob) > protocol.MaxBlob {
		return protocol.Errorf(protocol.CodeTooLarge, "presence of %d bytes is over %d", len(blob), protocol.MaxBlob)
	}
	m.s.mu.Lock()
	defer m.s.mu.Unlock()
	if m.at < 0 {
		return protocol.Errorf(protocol.CodeUnknownPeer, "the member has left")
	}
	m.blob = blob
	m.s.showAgain(m, m)
	return nil
}

// showAgain has the nodes that were shown old know m in its place.
func (s *swarm) showAgain(old, m *Member) {
	for _, rem := range s.remotes {
		delete(rem.joins, old)
		if rem.shown {
			s.sendJoins(rem, []*Member{m}, false, s.r.now())
		}
	}
}

// joinPresence shows a member that came.
func (s *swarm) joinPresence(m *Member) {
	if !m.flags.has(present) {
		return
	}
	if s.present[m.id] == nil {
		s.watchers(m, Event{Kind: KindJoined, From: m.id, Ref: s.r.self[:], Payload: m.blob})
	}
	for _, rem := range s.remotes {
		if rem.shown { // though it may have stopped to want it: its next member has to know
			s.sendJoins(rem, []*Member{m}, false, s.r.now())
		}
	}
}

// leavePresence shows that a member went; why is KindLeft or KindLost.
func (s *swarm) leavePresence(m *Member, why Kind) {
	wire := protocol.Presence_Leave_WHY_LEFT
	if why == KindLost {
		wire = protocol.Presence_Leave_WHY_NODE_LOST
	}
	for _, rem := range s.remotes {
		if _, sent := rem.joins[m]; sent {
			delete(rem.joins, m)
			rem.l.send(outgoing{kind: kindPresence}, &protocol.Frame{Body: &protocol.Frame_Presence{Presence: &protocol.Presence{
				App: rem.theirs, Leaves: []*protocol.Presence_Leave{{Peer: []byte(m.id), Why: wire}},
			}}})
		}
	}
	if m.flags.has(present) && s.present[m.id] == nil {
		s.watchers(m, Event{Kind: why, From: m.id})
	}
}

// watchers gives an event to all who want presence, but not to the one it is
// about.
func (s *swarm) watchers(but *Member, e Event) {
	if s.watch == 0 {
		return
	}
	sc := scratches.Get().(*scratch)
	defer sc.free()
	for _, w := range s.members {
		if w != but && w.flags.has(wantsPresence) {
			s.deliver(sc, w, e)
		}
	}
}

// showPresence sends a node that wants it all members here, once; changes
// follow.
func (s *swarm) showPresence(rem *remote, now instant) {
	if !rem.wantsPresence || rem.shown {
		return
	}
	rem.shown = true
	var batch []*Member
	size, snapshot := 0, true
	for _, m := range s.members {
		if !m.flags.has(present) {
			continue
		}
		if size += len(m.blob) + 2*protocol.MaxMemberID; size > protocol.MaxPayload {
			s.sendJoins(rem, batch, snapshot, now)
			batch, size, snapshot = nil, 0, false
		}
		batch = append(batch, m)
	}
	s.sendJoins(rem, batch, snapshot, now)
}

func (s *swarm) sendJoins(rem *remote, list []*Member, snapshot bool, now instant) {
	f := &protocol.Presence{App: rem.theirs, Snapshot: snapshot, Seen: rem.l.seenNow()}
	for _, m := range list {
		f.Joins = append(f.Joins, &protocol.Presence_Join{Peer: []byte(m.id), Age: millis(now - m.joined), Blob: m.blob})
	}
	seq, _ := rem.l.send(outgoing{kind: kindPresence}, &protocol.Frame{Body: &protocol.Frame_Presence{Presence: f}})
	if rem.joins == nil {
		rem.joins = make(map[*Member]sentJoin)
	}
	for i, m := range list {
		rem.joins[m] = sentJoin{seq: seq, seen: f.Seen, age: fromMillis(f.Joins[i].Age)}
	}
}

// later says whether another node's member joined after m, as both nodes see
// it: by the frames alone where both joins travelled on the link. The one that
// has seen the other is the later; of two that crossed, the greater age is the
// earlier, equal ages by lower id.
func (s *swarm) later(m *Member, id string, p *shown) bool {
	mine, sent := p.rem.joins[m]
	switch {
	case !sent:
		return p.joined > m.joined
	case mine.seen >= p.seq:
		return false
	case p.seen >= mine.seq:
		return true
	case mine.age != p.age:
		return p.age < mine.age
	}
	return m.id < id
}

// presentAt is the newest place of a member that other nodes show.
func (s *swarm) presentAt(id string) *home {
	if p := s.present[id]; p != nil {
		return &p.places[len(p.places)-1].home
	}
	return nil
}

func (r *Relay) onPresence(l *link, seq uint64, f *protocol.Presence) {
	rem := l.remote(f.App)
	if rem == nil {
		return
	}
	s := rem.s
	s.mu.Lock()
	defer s.mu.Unlock()
	now := r.now()
	if f.Snapshot {
		keep := make(map[string]bool, len(f.Joins))
		for _, j := range f.Joins {
			keep[string(j.Peer)] = true
		}
		for id := range s.present {
			if !keep[id] {
				s.absent(rem, id, KindLeft)
			}
		}
	}
	for _, j := range f.Joins {
		if len(j.Peer) == 0 || len(j.Peer) > protocol.MaxMemberID || len(j.Blob) > protocol.MaxBlob {
			continue
		}
		s.appear(rem, string(j.Peer), shown{
			home: home{rem: rem, joined: now - fromMillis(j.Age)}, blob: j.Blob, seq: seq, seen: f.Seen, age: fromMillis(j.Age),
		})
	}
	for _, lv := range f.Leaves {
		why := KindLeft
		if lv.Why == protocol.Presence_Leave_WHY_NODE_LOST {
			why = KindLost
		}
		s.absent(rem, string(lv.Peer), why)
	}
}

// appear adds a place of a member. Only the first is news to those who watch:
// one that comes through a second node, or comes back through another within
// the time that its lost node is given, never left.
// Where it is now they are not told: what is sent to it finds it.
func (s *swarm) appear(rem *remote, id string, at shown) {
	p := s.present[id]
	if p == nil {
		if len(s.present) >= maxPresent {
			return
		}
		if s.present == nil {
			s.present = make(map[string]*presence)
		}
		p = new(presence)
		s.present[id] = p
		if s.find(id) == nil {
			sc := scratches.Get().(*scratch)
			for _, w := range s.members {
				if !w.flags.has(wantsPresence) {
					continue
				}
				kind := KindPresent
				if s.later(w, id, &at) {
					kind = KindJoined
				}
				s.deliver(sc, w, Event{Kind: kind, Foreign: true, From: id, Ref: rem.l.node[:], Payload: at.blob})
			}
			sc.free()
		}
	}
	p.places = slices.DeleteFunc(p.places, func(o shown) bool { return o.rem == rem })
	i := slices.IndexFunc(p.places, func(o shown) bool { return o.joined > at.joined })
	if i < 0 {
		i = len(p.places)
	}
	p.places = slices.Insert(p.places, i, at)
}

func (s *swarm) absent(rem *remote, id string, why Kind) {
	p := s.present[id]
	if p == nil {
		return
	}
	p.places = slices.DeleteFunc(p.places, func(o shown) bool { return o.rem == rem })
	if len(p.places) > 0 {
		return
	}
	delete(s.present, id)
	if s.find(id) == nil {
		s.watchers(nil, Event{Kind: why, From: id})
	}
}

func (s *swarm) losePresence(rem *remote, why Kind) {
	for id := range s.present {
		s.absent(rem, id, why)
	}
}
