package relay

import (
	"slices"

	"github.com/peerservers/peerserver/protocol"
)

// remote is one app on one other node. Its fields but the first two are guarded
// by s.mu.
type remote struct {
	s *swarm
	l *link

	theirs        uint32 // the other node's number for the app
	members       int    // as claimed
	seeders       int
	subscribers   int
	wantsPresence bool
	listed        bool // list is complete
	list          []protocol.MemberHash
	told          bool // it has our Swarm
	greeted       bool // and the records of the other nodes
	shown         bool // it has our presence snapshot
	share         share
	offers        bucket // it may send
	evidence      evidence
	joins         map[*Member]sentJoin
	firsts        expiring[*Member, uint64]  // the sequences of first publishes that it was given
	named         bool                       // it was told of the ids that are claimed here
	untold        []*claim                   // those it was not told of yet
	seeks         expiring[string, struct{}] // ids that it looks for
}

// home is a member of another node.
type home struct {
	rem    *remote
	joined instant // by its age when it was listed
	said   int64   // when, as the node says: unix ms
	seeder bool
}

// bind finds or makes the remote of a link.
func (s *swarm) bind(l *link) *remote {
	if rem := s.remotes[l]; rem != nil {
		return rem
	}
	rem := &remote{s: s, l: l}
	rem.firsts = expiring[*Member, uint64]{period: ns(protocol.FirstPublish), max: maxHeldPublishes}
	if s.remotes == nil {
		s.remotes = make(map[*link]*remote)
	}
	s.remotes[l] = rem
	l.mu.Lock()
	l.remotes[s.number] = rem
	l.mu.Unlock()
	return rem
}

// admits says whether another node may take part in the app. On the open
// internet half of the places are kept for nodes that we dialled, and no subnet
// gets more than two, so that nobody can surround us.
func (s *swarm) admits(l *link) bool {
	if s.remotes[l] != nil || s.r.cfg.AllowPrivate {
		return s.remotes[l] != nil || len(s.remotes) < protocol.MaxLinks
	}
	chosen, subnet := l.origin()
	accepted, near := 0, 0
	for other := range s.remotes {
		c, n := other.origin()
		if !c {
			accepted++
		}
		if n == subnet && subnet.IsValid() {
			near++
		}
	}
	return len(s.remotes) < protocol.MaxAppLinks && (chosen || accepted < protocol.MaxAppLinks/2) && near < protocol.MaxPerSubnet
}

// unbind forgets all that was behind a link; its members leave.
func (s *swarm) unbind(rem *remote, why Kind) {
	if s.detach(rem) {
		s.losePresence(rem, why)
	}
}

// orphan forgets what was behind a link, but those it showed leave only when
// they are due.
func (s *swarm) orphan(rem *remote, due instant) {
	if !s.detach(rem) || len(s.present) == 0 {
		return
	}
	s.loseOrphans(func(o orphan) bool { return o.rem.l == rem.l }) // one a link
	s.orphans = append(s.orphans, orphan{rem, due})
	s.r.mu.Lock()
	s.r.orphaned[s] = struct{}{}
	s.r.mu.Unlock()
}

func (s *swarm) loseOrphans(due func(orphan) bool) {
	s.orphans = slices.DeleteFunc(s.orphans, func(o orphan) bool {
		if due(o) {
			s.losePresence(o.rem, KindLost)
		}
		return due(o)
	})
}

// loseOrphans has those leave that are due.
func (r *Relay) loseOrphans() {
	now := r.now()
	for _, s := range r.listed(r.orphaned) {
		s.mu.Lock()
		s.loseOrphans(func(o orphan) bool { return now >= o.due })
		if len(s.orphans) == 0 {
			s.orphans = nil
			r.mu.Lock()
			delete(r.orphaned, s)
			r.mu.Unlock()
		}
		s.mu.Unlock()
	}
}

// detach reports false when rem is not bound any more.
func (s *swarm) detach(rem *remote) bool {
	if s.remotes[rem.l] != rem {
		return false
	}
	delete(s.remotes, rem.l)
	rem.l.mu.Lock()
	if rem.l.remotes[s.number] == rem {
		delete(rem.l.remotes, s.number)
	}
	rem.l.mu.Unlock()
	s.relist(rem, nil, nil)
	if s.claims != nil {
		s.forgetNames(rem)
	}
	return true
}

// believed is the claimed count as far as there is evidence for it.
func (rem *remote) believed() int {
	if rem.members <= protocol.BelievedMembers {
		return rem.members
	}
	return min(rem.members, max(protocol.BelievedMembers, 2*rem.evidence.heard()))
}

// weight is the number of members that offers are shared out by. It falls only
// when far fewer of the node's offers are answered than of those given to
// members here.
func (rem *remote) weight(s *swarm) int {
	n := rem.believed()
	if rem.share.placed < protocol.JudgedOffers || s.here.placed < protocol.JudgedOffers {
		return n
	}
	theirs, ours := rem.share.ratio(), s.here.ratio()
	if theirs >= ours/4 {
		return n
	}
	return int(float64(n) * theirs / ours)
}

func (rem *remote) hear(from []byte, now instant) {
	if rem.members > protocol.BelievedMembers/2 {
		rem.evidence.hear(rem.s.offerKey(from, nil), now, ns(protocol.IntervalLarge))
	}
}

// relist replaces what rem lists and returns the members that nobody listed
// before and that are not here.
func (s *swarm) relist(rem *remote, list []protocol.MemberHash, at map[protocol.MemberHash]home) []target {
	for _, h := range rem.list {
		if _, stays := at[h]; stays {
			continue
		}
		places := slices.DeleteFunc(s.elsewhere[h], func(p home) bool { return p.rem == rem })
		if len(places) == 0 {
			delete(s.elsewhere, h)
		} else {
			s.elsewhere[h] = places
		}
	}
	rem.list = list
	if s.elsewhere == nil && len(list) > 0 {
		s.elsewhere = make(map[protocol.MemberHash][]home)
	}
	var fresh []target
	for _, h := range list {
		places := s.elsewhere[h]
		if len(places) == 0 && s.findHash(h) == nil {
			fresh = append(fresh, target{hash: h, rem: rem})
		}
		// Ages are rounded and messages take time: a place keeps the time it
		// first had unless the member joined anew.
		p := at[h]
		if i := slices.IndexFunc(places, func(p home) bool { return p.rem == rem }); i >= 0 {
			if p.joined-places[i].joined < ns(protocol.SwarmEvery) {
				p.joined = places[i].joined
			}
			places = slices.Delete(places, i, i+1)
		}
		i := slices.IndexFunc(places, func(o home) bool { return o.joined > p.joined })
		if i < 0 {
			i = len(places)
		}
		s.elsewhere[h] = slices.Insert(places, i, p)
	}
	return fresh
}

// newest is where a member that others list joined last, nil when none does.
func (s *swarm) newest(h protocol.MemberHash) *home {
	places := s.elsewhere[h]
	if len(places) == 0 {
		return nil
	}
	return &places[len(places)-1]
}

// change tells the other nodes of a new count: at once, then twice a second.
func (s *swarm) change(now instant) {
	if len(s.remotes) == 0 {
		return
	}
	if now-s.told < ns(protocol.SwarmEvery) {
		if !s.changed {
			s.changed = true
			s.r.mu.Lock()
			s.r.dirty[s] = struct{}{}
			s.r.mu.Unlock()
		}
		return
	}
	s.told, s.changed = now, false
	for _, rem := range s.remotes {
		if rem.told {
			s.tell(rem, now)
		}
	}
}

// changeAtOnce is change of a small swarm by a member that may be on another
// node too, which has to know before the next publish.
func (s *swarm) changeAtOnce(m *Member, now instant) {
	if m.flags.has(wantsCount) && s.small() {
		s.told = now - ns(protocol.SwarmEvery)
	}
	s.change(now)
}

func (r *Relay) flushDirty() {
	now := r.now()
	for _, s := range r.listed(r.dirty) {
		s.mu.Lock()
		if now-s.told >= ns(protocol.SwarmEvery) {
			r.mu.Lock()
			delete(r.dirty, s)
			r.mu.Unlock()
			s.change(now)
		}
		s.mu.Unlock()
	}
}

// tell sends our members of the app to one node.
func (s *swarm) tell(rem *remote, now instant) {
	rem.told = true
	f := &protocol.Swarm{
		App: rem.theirs, Mine: s.number, Members: uint32(s.takers), Seeders: uint32(s.seeders),
		Subscribers: uint32(s.subs), WantsPresence: s.watch > 0,
	}
	if s.small() {
		f.Listed = true
		for _, m := range s.members[:s.takers] {
			f.List = append(f.List, &protocol.Swarm_Member{Id: m.hash.Bytes(), Age: millis(now - m.joined), Seeder: m.flags.has(seeder), Joined: s.r.clock(m.joined)})
		}
	}
	rem.l.send(outgoing{kind: kindControl}, &protocol.Frame{Body: &protocol.Frame_Swarm{Swarm: f}})
}

// hear takes another node's Swarm.
func (s *swarm) hear(rem *remote, f *protocol.Swarm, now instant) {
	rem.theirs = f.Mine
	rem.members, rem.seeders, rem.subscribers = int(f.Members), int(min(f.Seeders, f.Members)), int(f.Subscribers)
	rem.wantsPresence = f.WantsPresence
	rem.listed = f.Listed && len(f.List) < protocol.SmallSwarm && len(f.List) == int(f.Members)
	if !rem.told {
		s.tell(rem, now)
	}
	var list []protocol.MemberHash
	at := make(map[protocol.MemberHash]home)
	if rem.listed {
		for _, m := range f.List {
			if h, ok := protocol.ParseMemberHash(m.Id); ok {
				if _, twice := at[h]; !twice {
					list = append(list, h)
					at[h] = home{rem: rem, joined: now - fromMillis(m.Age), said: m.Joined, seeder: m.Seeder}
				}
			}
		}
	}
	s.showPresence(rem, now) // before any signal
	fresh := s.relist(rem, list, at)
	s.settleUnnamed(rem, now)
	s.sendHeldPublishes(rem, now)
	s.tellNames(rem, now)
	if s.small() {
		sc := scratches.Get().(*scratch)
		for _, t := range fresh {
			s.meetElsewhere(sc, t, now)
		}
		sc.free()
	}
	if !rem.greeted {
		rem.greeted = true
		s.r.introduceNodes(s, rem)
	}
}
