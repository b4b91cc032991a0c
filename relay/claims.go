package relay

import (
	"maps"
	"slices"

	"github.com/peerservers/peerserver/protocol"
)

// tellAtOnce is how many claims a node is told in one go when it is met; more
// follow with every tick.
const tellAtOnce = 256

// claim is an id of which no other node is to have a member.
type claim struct {
	m     *Member
	token [32]byte
	since instant
	until instant // when it stands though nodes have not answered
	held  bool    // it stands: m is a member
	// told is what was said of it to nodes that have not answered yet. A node
	// that has answered has seen it: what it claims from then on is later.
	told map[*remote]toldClaim
}

type toldClaim struct {
	seq  uint64
	age  uint32 // as written
	held bool   // likewise
}

// Claim makes a client a member under an id that it has alone, if it can be.
// The sink is told with KindHeld or KindTaken, at the latest after
// protocol.ClaimWait; until then the client is no member, and Leave withdraws
// the claim. A claim that stood may still be lost: to an older one of a node
// that was not linked then, or to the same client on another node. The error
// has CodeTaken if the id is taken on this node.
func (r *Relay) Claim(app protocol.AppID, c Claiming) (*Member, error) {
	m, err := r.newMember(app, c.Joining)
	if err != nil {
		return nil, err
	}
	m.flags |= takesOffers // so that other nodes count it, and know in small apps where it is
	for {
		s, links, err := r.makeSwarm(app)
		if err != nil {
			return nil, err
		}
		gone, err := s.claim(m, &c, links)
		if err == nil && gone {
			continue
		}
		for _, l := range links {
			l.interest(s)
		}
		if err != nil {
			return nil, err
		}
		r.want(s)
		return m, nil
	}
}

// claim asks the nodes of the app. links are those that the app is to be made
// known on, if it is new here: they are waited for too.
func (s *swarm) claim(m *Member, c *Claiming, links []*link) (gone bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return true, nil
	}
	now := s.r.now()
	if old := s.claims[m.id]; old != nil && old.token == c.Token {
		s.endClaim(old, KindReplaced)
	} else if old != nil || s.find(m.id) != nil {
		return false, protocol.Errorf(protocol.CodeTaken, "the id is taken")
	}
	m.s, m.at, m.joined = s, -1, now
	cl := &claim{m: m, token: c.Token, since: now, until: now.add(protocol.ClaimWait - tick)}
	if s.claims == nil {
		s.claims, s.claiming = make(map[string]*claim), make(map[*claim]struct{})
		s.routesByName()
	}
	for _, l := range links {
		if l.isUp() {
			if s.silent == nil {
				s.silent = make(map[*link]struct{})
			}
			s.silent[l] = struct{}{}
		}
	}
	s.claims[m.id], s.claiming[cl] = cl, struct{}{}
	s.tempTo = max(s.tempTo, now.add(2*protocol.ClaimWait))
	for _, rem := range s.remotes {
		s.tellClaim(rem, cl, now)
	}
	s.watchNames()
	if c.Issued {
		s.hold(cl, now)
	} else {
		s.holdReady(now)
	}
	return false, nil
}

// holdReady has those claims stand that need not wait any longer.
func (s *swarm) holdReady(now instant) {
	if s.gone {
		return
	}
	for cl := range s.claiming {
		if now >= cl.until || (len(cl.told) == 0 && len(s.silent) == 0) {
			s.hold(cl, now)
		}
	}
}

// hold makes who claimed a member.
func (s *swarm) hold(cl *claim, now instant) {
	m := cl.m
	cl.held = true
	delete(s.claiming, cl)
	m.joined = now
	m.sink.Deliver(&Event{Kind: KindHeld})
	s.emptyAt = -1
	s.insert(m)
	s.r.members.Add(1)
	s.joinPresence(m)
	s.change(now)
	s.arrived(m, now)
}

// endClaim takes an id away from who claimed it; why is KindTaken or
// KindReplaced.
func (s *swarm) endClaim(cl *claim, why Kind) {
	if cl.held {
		s.end(cl.m, KindLeft)
	} else {
		s.withdraw(cl.m)
	}
	cl.m.sink.Deliver(&Event{Kind: why})
}

// withdraw ends a claim that does not stand yet.
func (s *swarm) withdraw(m *Member) {
	cl := s.claims[m.id]
	if cl == nil || cl.m != m || cl.held {
		return
	}
	delete(s.claims, m.id)
	delete(s.claiming, cl)
	s.lingerLocked()
}

// unclaim forgets the claim of a member that leaves.
func (s *swarm) unclaim(m *Member) {
	if cl := s.claims[m.id]; cl != nil && cl.m == m {
		delete(s.claims, m.id)
	}
}

// tellClaim tells a node of a claim.
func (s *swarm) tellClaim(rem *remote, cl *claim, now instant) {
	if rem.theirs == 0 {
		return // it will be told when its number is known
	}
	told := toldClaim{age: millis(now - cl.since), held: cl.held}
	seq, code := rem.l.send(outgoing{kind: kindControl}, &protocol.Frame{Body: &protocol.Frame_Claim{Claim: &protocol.Claim{
		App: rem.theirs, Name: []byte(cl.m.id), Token: cl.token[:], Age: told.age, Held: told.held,
	}}})
	if code != protocol.CodeOK {
		return
	}
	told.seq = seq
	if cl.told == nil {
		cl.told = make(map[*remote]toldClaim)
	}
	cl.told[rem] = told
}

// tellNames tells a node that was just met of all ids that are claimed here, and
// asks it for those that are sought.
func (s *swarm) tellNames(rem *remote, now instant) {
	if rem.named {
		return
	}
	rem.named = true
	rem.untold = slices.Collect(maps.Values(s.claims))
	if s.tellMore(rem, now); len(rem.untold) > 0 {
		s.watchNames()
	}
	for name := range s.seeks {
		s.ask(rem, name)
	}
}

func (s *swarm) tellMore(rem *remote, now instant) {
	n := min(len(rem.untold), tellAtOnce)
	for _, cl := range rem.untold[:n] {
		if _, told := cl.told[rem]; !told && s.claims[cl.m.id] == cl {
			s.tellClaim(rem, cl, now)
		}
	}
	if rem.untold = rem.untold[n:]; len(rem.untold) == 0 {
		rem.untold = nil
	}
}

// onClaim compares another node's claim with what is claimed here.
func (r *Relay) onClaim(l *link, seq uint64, f *protocol.Claim) {
	rem := l.remote(f.App)
	if rem == nil || len(f.Name) == 0 || len(f.Name) > protocol.MaxMemberID || len(f.Token) != len(claim{}.token) {
		return
	}
	s := rem.s
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := &protocol.Holds{App: rem.theirs, Name: f.Name, Claim: seq}
	if cl := s.claims[string(f.Name)]; cl != nil {
		same := [32]byte(f.Token) == cl.token
		if s.earlier(cl, rem, f) != same {
			answer.Held, answer.Moved = true, same
		} else {
			why := KindTaken
			if same {
				why = KindReplaced
			}
			s.endClaim(cl, why)
		}
	} else {
		answer.Held = s.findBytes(f.Name) != nil
	}
	l.send(outgoing{kind: kindControl}, &protocol.Frame{Body: &protocol.Frame_Holds{Holds: answer}})
}

// earlier says whether a claim of ours came before one of another node. Both
// nodes see it the same: by the frames alone. Two that crossed, of which one is
// held, are of nodes that came to the app at nearly the same time: one was told
// that the other has no part in it, and that was true.
func (s *swarm) earlier(cl *claim, rem *remote, f *protocol.Claim) bool {
	told, open := cl.told[rem]
	if !open && slices.Contains(rem.untold, cl) {
		s.tellClaim(rem, cl, s.r.now())
		told, open = cl.told[rem]
	}
	switch {
	case !open: // it has answered ours, and claims only now
		return true
	case told.held != f.Held:
		return told.held
	case told.age != f.Age:
		return told.age > f.Age
	}
	return s.r.self.Less(rem.l.node)
}

// onHolds takes the answer to a Claim or a Find.
func (r *Relay) onHolds(l *link, f *protocol.Holds) {
	rem := l.remote(f.App)
	if rem == nil || len(f.Name) > protocol.MaxMemberID {
		return
	}
	s := rem.s
	s.mu.Lock()
	defer s.mu.Unlock()
	now := r.now()
	if f.Claim == 0 {
		if f.Held {
			s.foundAt(string(f.Name), rem, now)
		}
		return
	}
	cl := s.claims[string(f.Name)]
	if cl == nil {
		return
	}
	if told, ok := cl.told[rem]; !ok || told.seq != f.Claim {
		return // of an earlier claim of that id
	}
	if delete(cl.told, rem); len(cl.told) == 0 {
		cl.told = nil
	}
	switch {
	case f.Held && f.Moved:
		s.endClaim(cl, KindReplaced)
	case f.Held:
		s.endClaim(cl, KindTaken)
	default:
		s.holdReady(now)
	}
}

// forgetNames forgets what was said to a node that is not bound any more.
func (s *swarm) forgetNames(rem *remote) {
	for _, cl := range s.claims {
		delete(cl.told, rem)
	}
	s.holdReady(s.r.now())
}

// watchNames has sweepNames look after the app.
func (s *swarm) watchNames() {
	s.r.mu.Lock()
	s.r.named[s] = struct{}{}
	s.r.mu.Unlock()
}

// sweepNames keeps the deadlines of claims, and of messages that wait.
func (r *Relay) sweepNames() {
	now := r.now()
	for _, s := range r.listed(r.named) {
		s.mu.Lock()
		if len(s.claiming) > 0 {
			s.holdReady(now)
		}
		if len(s.claiming) == 0 {
			s.silent = nil
		}
		more := false
		for _, rem := range s.remotes {
			s.tellMore(rem, now)
			more = more || len(rem.untold) > 0
		}
		s.expireWaiting(now)
		if len(s.claiming) == 0 && len(s.seeks) == 0 && !more {
			r.mu.Lock()
			delete(r.named, s)
			r.mu.Unlock()
		}
		s.mu.Unlock()
	}
}
