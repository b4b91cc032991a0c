package relay

import (
	"maps"
	"slices"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// tellAtOnce is how many claims a node is told in one go when it is met; more
// follow with every tick.
const tellAtOnce = 256

// claim is an id of which no other node is to have a member.
type claim struct {
	m       *Member
	token   [32]byte
	made    int64   // unix ms; the same on every link
	until   instant // when it stands though nodes have not answered
	held    bool    // it stands: m is a member
	settled bool    // it stood when all nodes that had been told of it had answered
	// told is what was said of it to nodes that have not answered yet.
	told map[*remote]toldClaim
}

type toldClaim struct {
	seq     uint64
	settled bool // as written
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
	cl := &claim{m: m, token: c.Token, made: s.r.claimTime(), until: now.add(protocol.ClaimWait - tick)}
	if old := s.claims[m.id]; old != nil && old.token == c.Token {
		cl.made, cl.settled = old.made, old.settled // it is one claim: another's may have lost to it
		s.endClaim(old, KindReplaced)
	} else if old != nil || s.find(m.id) != nil {
		return false, protocol.Errorf(protocol.CodeTaken, "the id is taken")
	}
	m.s, m.at, m.joined = s, -1, now
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
		s.tellClaim(rem, cl)
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
	cl.settle()
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

// settle is called whenever a claim comes to stand, or was answered.
func (cl *claim) settle() { cl.settled = cl.settled || cl.held && len(cl.told) == 0 }

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
func (s *swarm) tellClaim(rem *remote, cl *claim) {
	if rem.theirs == 0 {
		return // it will be told when its number is known
	}
	told := toldClaim{settled: cl.settled}
	seq, code := rem.l.send(outgoing{kind: kindControl}, &protocol.Frame{Body: &protocol.Frame_Claim{Claim: &protocol.Claim{
		App: rem.theirs, Name: []byte(cl.m.id), Token: cl.token[:], Made: cl.made, Settled: told.settled,
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
			s.tellClaim(rem, cl)
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
	r.hearClaimTime(f.Made)
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

// earlier says whether a claim of ours is before one of another node. Both nodes
// see it the same, by the frames alone: ours is compared as it was written if that
// node has not answered it; else it knew nothing of its own claim then, and only
// we compare.
//
// The order is one of all claims: two nodes that tell each other late, or more than
// once, find the same, so there are no three of which each loses to the next. It is
// so although a claim becomes settled: one that is has nothing to fear from any that
// is not, as those it was told to have answered, and the others are told that it is.
func (s *swarm) earlier(cl *claim, rem *remote, f *protocol.Claim) bool {
	if slices.Contains(rem.untold, cl) {
		if _, told := cl.told[rem]; !told {
			s.tellClaim(rem, cl)
		}
	}
	settled := cl.settled
	if told, open := cl.told[rem]; open {
		settled = told.settled
	}
	switch {
	case settled != f.Settled:
		return settled
	case cl.made != f.Made:
		return cl.made < f.Made
	}
	return s.r.self.Less(rem.l.node)
}

// claimTime is when a claim of now is made: by the clock, but later than all that
// were heard of. Clocks differ, and what a node has answered comes before what it
// claims next.
func (r *Relay) claimTime() int64 { return max(time.Now().UnixMilli(), r.claimed.Load()+1) }

// hearClaimTime takes note of another node's claim; not of one that is too far
// ahead, which is later than ours, and may be a lie.
func (r *Relay) hearClaimTime(made int64) {
	if time.UnixMilli(made).After(time.Now().Add(protocol.RecordAhead)) {
		return
	}
	for {
		last := r.claimed.Load()
		if made <= last || r.claimed.CompareAndSwap(last, made) {
			return
		}
	}
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
		cl.settle()
		s.holdReady(now)
	}
}

// forgetNames forgets what was said to a node that is not bound any more.
func (s *swarm) forgetNames(rem *remote) {
	for _, cl := range s.claims {
		delete(cl.told, rem)
		cl.settle()
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
