package relay

import (
	"hash/maphash"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// indexAbove is the size from which a swarm finds its members by a map; under
// it a walk is faster and takes no room.
const indexAbove = 16

// swarm is one app: the members here, and what is known of those elsewhere.
type swarm struct {
	// Static after newSwarm.
	r      *Relay
	app    protocol.AppID
	number uint32 // by which other nodes call it

	mu      sync.Mutex
	rnd     *rand.Rand
	gone    bool      // removed from the relay: get it anew
	members []*Member // those that take offers first
	takers  int       // how many those are
	index   map[string]*Member
	seeders int
	subs    int // subscribers
	watch   int // members that want presence
	counted int // members that want the count of subscribers

	remotes   map[*link]*remote
	elsewhere map[protocol.MemberHash][]home // members that other nodes list
	present   map[string]*presence           // members that other nodes show
	orphans   []orphan                       // nodes that restarted, and still show some
	publishes []heldPublish
	waiting   []waiting // offers whose turn has not come

	early     expiring[*Member, []protocol.MemberHash] // who published first to a member that was about to
	claims    map[string]*claim                        // by id
	claiming  map[*claim]struct{}                      // those of them that do not stand yet
	silent    map[*link]struct{}                       // links that have not said whether they serve the app
	seeks     map[string]*seek                         // members that messages wait for, by id
	waiters   map[*Member]waits                        // whose they are
	found     expiring[string, *remote]                // where members are that were sought
	published uint64                                   // how many publishes there ever were

	routes  expiring[uint64, *link]    // where the answer to an offer from another node goes
	sent    expiring[uint64, struct{}] // offers given to other nodes, not answered yet
	here    share                      // offers given to members here
	told    instant                    // when the last Swarm went out
	changed bool                       // since then
	emptyAt instant                    // when the last member left, -1 while there are some
	tempTo  instant                    // served without members until then, for a publish or a scrape
	queued  bool                       // in r.empty
	wanted  bool                       // others are looked for
}

// Member is one client in one app, on this node.
type Member struct {
	// Static after Join.
	s      *swarm
	id     string
	sink   Sink
	joined instant
	hash   protocol.MemberHash

	// Guarded by s.mu.
	blob     []byte
	at       int32 // in s.members, -1 when it has left
	flags    flags
	met      bool // was introduced to the others
	holding  *holding
	dealings *dealings
}

type flags uint8

const (
	takesOffers flags = 1 << iota
	seeder
	subscriber
	present
	wantsPresence
	wantsCount
	hasPublished
)

func (f flags) has(g flags) bool { return f&g != 0 }

// Join makes a client a member of an app. It is introduced to the others with
// its first Offer.
func (r *Relay) Join(app protocol.AppID, j Joining) (*Member, error) {
	m, err := r.newMember(app, j)
	if err != nil {
		return nil, err
	}
	for {
		s, links, err := r.makeSwarm(app)
		if err != nil {
			return nil, err
		}
		if !s.join(m) {
			continue
		}
		// Only now: what other nodes are told first has this member in it, and
		// what it wants.
		for _, l := range links {
			l.interest(s)
		}
		r.want(s)
		return m, nil
	}
}

// newMember makes one that is in no swarm yet.
func (r *Relay) newMember(app protocol.AppID, j Joining) (*Member, error) {
	if len(j.ID) == 0 || len(j.ID) > protocol.MaxMemberID || j.Sink == nil {
		return nil, protocol.Errorf(protocol.CodeMalformed, "member id of %d bytes is not of 1 to %d", len(j.ID), protocol.MaxMemberID)
	}
	if len(j.Blob) > protocol.MaxBlob {
		return nil, protocol.Errorf(protocol.CodeTooLarge, "presence of %d bytes is over %d", len(j.Blob), protocol.MaxBlob)
	}
	if int(r.members.Load()) >= r.cfg.MaxMembers {
		return nil, protocol.Errorf(protocol.CodeFull, "this node has %d members, its limit; use another node", r.cfg.MaxMembers)
	}
	return &Member{id: j.ID, sink: j.Sink, blob: j.Blob, hash: app.MemberHash(j.ID), flags: j.flags()}, nil
}

func (j *Joining) flags() flags {
	var f flags
	for _, b := range []struct {
		set bool
		f   flags
	}{{j.TakesOffers, takesOffers}, {j.Seeder, seeder}, {j.Subscriber, subscriber}, {j.Present, present}, {j.WantsPresence, wantsPresence}, {j.WantsCount, wantsCount}} {
		if b.set {
			f |= b.f
		}
	}
	return f
}

// swarm finds the app's swarm or makes it, and makes it known on all links.
func (r *Relay) swarm(app protocol.AppID) (*swarm, error) {
	s, links, err := r.makeSwarm(app)
	for _, l := range links {
		l.interest(s)
	}
	return s, err
}

// quietSwarm is swarm, but leaves it to the caller to make it known.
func (r *Relay) quietSwarm(app protocol.AppID) (*swarm, error) {
	s, _, err := r.makeSwarm(app)
	return s, err
}

// makeSwarm returns the links that a new swarm is to be made known on.
func (r *Relay) makeSwarm(app protocol.AppID) (*swarm, []*link, error) {
	r.mu.Lock()
	if s := r.swarms[app]; s != nil {
		r.mu.Unlock()
		return s, nil, nil
	}
	if r.cfg.Allows != nil && !r.cfg.Allows(app) {
		r.mu.Unlock()
		return nil, nil, protocol.Errorf(protocol.CodeDenied, "this node serves only the apps that its operator has listed; use another node")
	}
	if len(r.swarms) >= r.cfg.MaxApps {
		r.mu.Unlock()
		r.sweepEmpty(0)
		r.mu.Lock()
	}
	if len(r.swarms) >= r.cfg.MaxApps {
		r.mu.Unlock()
		return nil, nil, protocol.Errorf(protocol.CodeFull, "this node serves %d apps, its limit; use another node", r.cfg.MaxApps)
	}
	s := &swarm{r: r, app: app, rnd: r.random(app), emptyAt: -1}
	s.routes = expiring[uint64, *link]{period: ns(protocol.OfferHold + 5*time.Second), max: 1 << 16}
	s.sent = expiring[uint64, struct{}]{period: s.routes.period, max: s.routes.max}
	s.told = -ns(protocol.SwarmEvery)
	r.lastNumber++
	s.number = r.lastNumber
	r.swarms[app], r.numbers[s.number] = s, s
	links := r.allLinks()
	r.mu.Unlock()
	return s, links, nil
}

// want looks for other nodes from the first member on.
func (r *Relay) want(s *swarm) {
	if r.cfg.Finder == nil {
		return
	}
	s.mu.Lock()
	first := !s.wanted && !s.gone
	s.wanted = s.wanted || first
	s.mu.Unlock()
	if first {
		r.cfg.Finder.Want(s.app, func(rec *protocol.Record) { r.found(s.app, rec) })
	}
}

// join adds m and reports false when the swarm is gone.
func (s *swarm) join(m *Member) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return false
	}
	now := s.r.now()
	m.s, m.joined = s, now
	old := s.find(m.id)
	if old != nil {
		if old.flags.has(seeder) {
			m.flags |= seeder
		}
		s.remove(old)
		old.sink.Deliver(&Event{Kind: KindReplaced})
		m.met, m.holding, m.dealings = old.met, old.holding, old.dealings
	}
	s.emptyAt = -1
	s.insert(m)
	s.r.members.Add(1)
	switch was, is := old != nil && old.flags.has(present), m.flags.has(present); {
	case was && is: // nobody is told, and those who come are shown m
		s.showAgain(old, m)
	case was:
		s.leavePresence(old, KindLeft)
	default:
		s.joinPresence(m)
	}
	s.changeAtOnce(m, now)
	return true
}

func (s *swarm) insert(m *Member) {
	s.members = append(s.members, m)
	m.at = int32(len(s.members) - 1)
	if m.flags.has(takesOffers) {
		s.swap(int(m.at), s.takers)
		s.takers++
	}
	if s.index != nil {
		s.index[m.id] = m
	} else if len(s.members) > indexAbove {
		s.index = make(map[string]*Member, 2*indexAbove)
		for _, o := range s.members {
			s.index[o.id] = o
		}
	}
	s.tally(m, 1)
}

func (s *swarm) tally(m *Member, by int) {
	if m.flags.has(seeder) {
		s.seeders += by
	}
	if m.flags.has(subscriber) {
		s.subs += by
	}
	if m.flags.has(wantsPresence) {
		s.watch += by
	}
	if m.flags.has(wantsCount) {
		s.counted += by
	}
}

func (s *swarm) swap(i, j int) {
	s.members[i], s.members[j] = s.members[j], s.members[i]
	s.members[i].at, s.members[j].at = int32(i), int32(j)
}

func (s *swarm) remove(m *Member) {
	if m.flags.has(takesOffers) {
		s.takers--
		s.swap(int(m.at), s.takers)
	}
	last := len(s.members) - 1
	s.swap(int(m.at), last)
	s.members[last] = nil
	s.members = s.members[:last]
	m.at = -1
	if s.index != nil {
		delete(s.index, m.id)
		if last < indexAbove/2 {
			s.index = nil
		}
	}
	s.tally(m, -1)
	s.r.members.Add(-1)
}

func (s *swarm) find(id string) *Member {
	if s.index != nil {
		return s.index[id]
	}
	for _, m := range s.members {
		if m.id == id {
			return m
		}
	}
	return nil
}

func (s *swarm) findBytes(id []byte) *Member {
	if s.index != nil {
		return s.index[string(id)]
	}
	for _, m := range s.members {
		if m.id == string(id) {
			return m
		}
	}
	return nil
}

func (s *swarm) findHash(h protocol.MemberHash) *Member {
	for _, m := range s.members {
		if m.hash == h {
			return m
		}
	}
	return nil
}

// ID is the member's id.
func (m *Member) ID() string { return m.id }

// Seed makes the member complete, for good.
func (m *Member) Seed() {
	m.s.mu.Lock()
	defer m.s.mu.Unlock()
	if m.at >= 0 && !m.flags.has(seeder) {
		m.flags |= seeder
		m.s.seeders++
		m.s.change(m.s.r.now())
	}
}

// Leave ends the membership. The member's sink gets nothing after it.
func (m *Member) Leave() {
	m.s.mu.Lock()
	defer m.s.mu.Unlock()
	m.s.end(m, KindLeft)
}

// Lose is Leave of a member that did not mean to: others see it as KindLost.
// What its sink took and could not hand on fails to those who sent it: with
// CodeNodeGone if the member is elsewhere by now, so that trying again helps,
// else with CodeUnknownPeer.
func (m *Member) Lose(failed []Undelivered) {
	m.s.mu.Lock()
	defer m.s.mu.Unlock()
	m.s.end(m, KindLost)
	code := protocol.CodeUnknownPeer
	if t, rem := m.s.locate(m.id); t != nil || rem != nil {
		code = protocol.CodeNodeGone
	}
	for _, u := range failed {
		m.s.failLate(m, u, code)
	}
}

func (s *swarm) end(m *Member, why Kind) {
	if m.at < 0 {
		s.withdraw(m)
		return
	}
	now := s.r.now()
	s.remove(m)
	s.unclaim(m)
	m.release()
	s.leavePresence(m, why)
	if len(s.members) == 0 {
		s.emptyAt = now
		s.index = nil
		s.lingerLocked()
	}
	s.change(now)
}

// Counts are sums over all nodes.
func (m *Member) Counts() Counts {
	m.s.mu.Lock()
	defer m.s.mu.Unlock()
	return m.s.counts()
}

// counts sums members once each: those that other nodes list by their hash,
// the others by the number that is believed.
func (s *swarm) counts() Counts {
	seed, all := s.seeders, s.takers
	for h, places := range s.elsewhere {
		if m := s.findHash(h); m == nil {
			all++
			if places[len(places)-1].seeder {
				seed++
			}
		}
	}
	for _, rem := range s.remotes {
		if !rem.listed {
			n := rem.believed()
			all += n
			seed += min(rem.seeders, n)
		}
	}
	c := Counts{Complete: min(seed, all), Incomplete: max(all-seed, 0), Interval: protocol.IntervalLarge}
	if all < protocol.SmallSwarm {
		c.Interval = protocol.IntervalSmall
	}
	return c
}

// known is the size of the swarm as far as it is known; small says whether
// offers are held in it.
func (s *swarm) known() int {
	if len(s.remotes) == 0 {
		return s.takers
	}
	c := s.counts()
	return c.Complete + c.Incomplete
}

func (s *swarm) small() bool {
	return s.takers < protocol.SmallSwarm && s.known() < protocol.SmallSwarm
}

func (s *swarm) offerKeyString(from string, ref []byte) uint64 {
	var buf [protocol.MaxMemberID]byte
	return s.offerKey(append(buf[:0], from...), ref)
}

// sentKey names an offer that was given to one node. It is the same when the
// node is bound to the app anew.
func (rem *remote) sentKey(from, ref []byte) uint64 { return rem.s.offerKey(from, ref) ^ rem.l.salt }

// offerKey names an offer within the swarm: the id of who made it, and its own.
func (s *swarm) offerKey(from, ref []byte) uint64 {
	var h maphash.Hash
	h.SetSeed(s.r.hasher)
	h.WriteByte(byte(len(from)))
	h.Write(from)
	h.Write(ref)
	return h.Sum64()
}
