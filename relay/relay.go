package relay

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"hash/maphash"
	"log/slog"
	"maps"
	mrand "math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// Config is what a relay is made from. Only Key is needed; without Finder and
// Dialer it serves its own members alone, and the links others dial to it.
type Config struct {
	Key    ed25519.PrivateKey
	Finder Finder
	Dialer Dialer
	Log    *slog.Logger

	// AllowPrivate drops the rules that protect a node on the open internet
	// and hinder on a LAN: private addresses are dialled, and again at once.
	AllowPrivate bool
	// MaxApps and MaxMembers bound this node; zero means 200,000 and
	// 1,000,000.
	MaxApps, MaxMembers int
	// Proven are addresses where a handshake has succeeded before, from Proven
	// of an earlier run: they may be dialled again at once.
	Proven []string
	// Allows says whether members here may take part in an app; nil is yes. It is
	// called under a lock: it must not wait.
	Allows func(protocol.AppID) bool
	// TURNKeys are those that a linked node is given for this node's TURN server,
	// today's and tomorrow's; nil: this node has none. Called from any goroutine.
	TURNKeys func(node protocol.NodeID) []*protocol.TurnKeys_Key
	// TrySTUN says whether a STUN server answers there, for a linked node that asks
	// for it to be tried; nil: such questions are refused.
	TrySTUN func(ctx context.Context, to netip.AddrPort) bool
	// Seed makes random choices repeatable, for tests. Zero is random.
	Seed uint64
}

// Relay brings local members together with each other and, over links, with
// those of other nodes.
type Relay struct {
	// Static after New.
	cfg     Config
	id      *identity
	self    protocol.NodeID
	log     *slog.Logger
	start   time.Time
	hasher  maphash.Seed
	handles chan struct{}              // a slot for each handshake under way
	tries   chan struct{}              // a slot for each Probe that is tried
	starts  chan func(context.Context) // what Serve is to run beside itself

	heldBytes atomic.Int64
	members   atomic.Int64
	claimed   atomic.Int64 // when the last of other nodes' claims was made, unix ms
	totals    totals

	mu         sync.Mutex
	serving    bool
	running    sync.WaitGroup
	swarms     map[protocol.AppID]*swarm
	links      map[protocol.NodeID]*link
	mesh       mesh
	numbers    map[uint32]*swarm
	lastNumber uint32
	empty      []*swarm  // that were without members at some time, oldest first
	holders    []*Member // that hold offers, oldest first
	dirty      map[*swarm]struct{}
	scrapes    map[*scrape]struct{}
	turns      map[*swarm]struct{} // with offers that wait for their turn
	orphaned   map[*swarm]struct{} // with orphans
	named      map[*swarm]struct{} // with claims that do not stand yet, or messages that wait
	closing    bool
}

type totals struct {
	offers, answers, publishes, signals     atomic.Uint64 // taken from local members
	linkOffers, linkAnswers                 atomic.Uint64 // of these, sent over links
	held, refused, replaced, duplicateReply atomic.Uint64
}

// Stats are totals that show nothing of any app or peer.
type Stats struct {
	Apps      int    `json:"apps"`
	Members   int    `json:"members"`
	Links     int    `json:"links"`
	Nodes     int    `json:"nodes"` // whose records are known
	Offers    uint64 `json:"offers"`
	Answers   uint64 `json:"answers"`
	Publishes uint64 `json:"publishes"`
	Signals   uint64 `json:"signals"`
	// Crossed counts offers sent to other nodes, Held those given to late
	// comers, Refused what a slow member or a quota lost, Replaced offers
	// placed a second time because a node was lost.
	Crossed  uint64 `json:"crossed"`
	Held     uint64 `json:"held"`
	Refused  uint64 `json:"refused"`
	Replaced uint64 `json:"replaced"`
}

// New makes a relay. It does nothing until Serve, but takes members already.
func New(cfg Config) (*Relay, error) {
	if cfg.MaxApps == 0 {
		cfg.MaxApps = 200_000
	}
	if cfg.MaxMembers == 0 {
		cfg.MaxMembers = 1_000_000
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	id, err := newIdentity(cfg.Key)
	if err != nil {
		return nil, err
	}
	r := &Relay{
		cfg: cfg, id: id, log: cfg.Log, start: time.Now(), hasher: maphash.MakeSeed(),
		self:     protocol.NodeID(cfg.Key.Public().(ed25519.PublicKey)),
		handles:  make(chan struct{}, 128),
		tries:    make(chan struct{}, maxProbing),
		starts:   make(chan func(context.Context), 1024),
		swarms:   make(map[protocol.AppID]*swarm),
		links:    make(map[protocol.NodeID]*link),
		scrapes:  make(map[*scrape]struct{}),
		turns:    make(map[*swarm]struct{}),
		orphaned: make(map[*swarm]struct{}),
		named:    make(map[*swarm]struct{}),
		numbers:  make(map[uint32]*swarm),
		dirty:    make(map[*swarm]struct{}),
	}
	r.mesh.init(cfg.AllowPrivate)
	r.mesh.book.restore(cfg.Proven)
	return r, nil
}

// Proven are the addresses where a handshake has succeeded, newest first, to be
// kept for the next start.
func (r *Relay) Proven() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mesh.book.proven()
}

// ID is the node's.
func (r *Relay) ID() protocol.NodeID { return r.self }

// clock is an instant as unix ms.
func (r *Relay) clock(i instant) int64 { return r.start.UnixMilli() + int64(i)/int64(time.Millisecond) }

func (r *Relay) now() instant { return instant(time.Since(r.start)) }

func (r *Relay) random(app protocol.AppID) *mrand.Rand {
	if r.cfg.Seed != 0 {
		return mrand.New(mrand.NewPCG(r.cfg.Seed, binary.BigEndian.Uint64(app[:])))
	}
	var b [16]byte
	rand.Read(b[:])
	return mrand.New(mrand.NewPCG(binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:])))
}

// tick is how often Serve looks after deadlines.
const tick = 100 * time.Millisecond

// Serve runs the relay until ctx ends, then closes its links and waits for all
// it started.
func (r *Relay) Serve(ctx context.Context) error {
	r.mu.Lock()
	r.serving = true
	r.mu.Unlock()
	if r.cfg.Finder != nil {
		r.cfg.Finder.Want(protocol.MeshApp, func(rec *protocol.Record) { r.found(protocol.MeshApp, rec) })
	}
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			r.stop(ctx)
			return nil
		case f := <-r.starts:
			r.running.Go(func() { f(ctx) })
		case <-ticker.C:
			r.flushDirty()
			r.sweepLinks()
			r.takeTurns()
			r.loseOrphans()
			r.finishScrapes()
			r.sweepNames()
			if n%10 == 0 {
				r.sweepSwarms()
			}
		}
	}
}

// goWhileServing has Serve run f, with its context, and wait for it. It reports
// false when the relay ends or has too much to start.
func (r *Relay) goWhileServing(f func(ctx context.Context)) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closing {
		return false
	}
	select {
	case r.starts <- f:
		return true
	default:
		return false
	}
}

// stop ends all links and waits. What has not been started is run with the
// context that has ended, so that it gives back what it holds.
func (r *Relay) stop(ctx context.Context) {
	r.mu.Lock()
	r.closing = true
	for len(r.starts) > 0 {
		f := <-r.starts
		r.running.Go(func() { f(ctx) })
	}
	links := r.allLinks()
	r.mu.Unlock()
	for _, l := range links {
		r.running.Go(func() { l.shut(protocol.Bye_CODE_DRAIN, 0) })
	}
	r.running.Wait()
}

// listed are the swarms of a set that mu guards, whose own locks come first.
func (r *Relay) listed(set map[*swarm]struct{}) []*swarm {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Keys(set))
}

// allLinks is called with mu held.
func (r *Relay) allLinks() []*link {
	all := make([]*link, 0, len(r.links))
	for _, l := range r.links {
		all = append(all, l)
	}
	return all
}

// Stats are the node's totals.
func (r *Relay) Stats() Stats {
	r.mu.Lock()
	s := Stats{Apps: len(r.swarms) - len(r.empty), Nodes: r.mesh.known()}
	links := r.allLinks()
	r.mu.Unlock()
	for _, l := range links {
		if l.isUp() {
			s.Links++
		}
	}
	t := &r.totals
	s.Members = int(r.members.Load())
	s.Offers, s.Answers, s.Publishes, s.Signals = t.offers.Load(), t.answers.Load(), t.publishes.Load(), t.signals.Load()
	s.Crossed, s.Held, s.Refused, s.Replaced = t.linkOffers.Load(), t.held.Load(), t.refused.Load(), t.replaced.Load()
	return s
}
