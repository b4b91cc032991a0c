package dhtstore

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// ErrNotFound is that a node's record is not in the DHT, or that no node of
// the DHT answers.
var ErrNotFound = errors.New("not found")

// Source says where a node was found.
type Source string

// Sources.
const (
	SourceCache Source = "cache" // it had been found before
	SourceDHT   Source = "dht"   // it is announced, and has answered
)

// Found is a node that serves an app.
type Found struct {
	Record   *protocol.Record
	Addr     netip.AddrPort // where it answers over UDP
	Source   Source
	Progress Progress
}

// Progress is what a lookup has cost so far. Queries and rounds say more than
// the time it took: they are the same on any network.
type Progress struct {
	Queries    int // asked of DHT nodes
	Replies    int // of them answered
	Rounds     int // the longest chain of nodes of which each named the next
	Candidates int // addresses announced for the app
	Probed     int // of them asked for their record
	Took       time.Duration
}

// Lookup finds nodes that serve an app, without announcing anything, and calls
// found for each, once, from one goroutine at a time. It returns when all have
// been asked. The error is that no node of the DHT answers.
func (s *Store) Lookup(ctx context.Context, app protocol.AppID, found func(Found)) (Progress, error) {
	start := time.Now()
	var mu sync.Mutex // also of the callback
	var p Progress
	seen := make(map[protocol.NodeID]bool)
	tell := func(r *protocol.Record, at netip.AddrPort, source Source) {
		mu.Lock()
		defer mu.Unlock()
		if !seen[r.Node] {
			seen[r.Node] = true
			p.Took = time.Since(start)
			found(Found{r, at, source, p})
		}
	}
	for _, id := range s.cache.of(app, start) {
		if r, at, lately := s.cache.lookUp(id, start); r != nil && lately {
			tell(r, at, SourceCache)
		}
	}
	sides, err := s.waitReady(ctx)
	if err != nil {
		return p, fmt.Errorf("look up app %s: %w", app, err)
	}
	c := s.newCandidates(func(r *protocol.Record, at netip.AddrPort, _ bool) {
		s.cache.serves(r.Node, app, time.Now())
		tell(r, at, SourceDHT)
	})
	var wg sync.WaitGroup
	for _, d := range sides {
		for _, day := range days(start) {
			wg.Go(func() {
				_, stats := s.gather(ctx, d, app.Rendezvous(day), c)
				mu.Lock()
				defer mu.Unlock()
				p.Queries, p.Replies, p.Rounds = p.Queries+stats.Queries, p.Replies+stats.Replies, max(p.Rounds, stats.Rounds)
			})
		}
	}
	wg.Wait()
	c.finish(ctx)
	p.Candidates, p.Probed = c.count()
	p.Took = time.Since(start)
	s.charge(p.Queries + p.Probed)
	if p.Replies == 0 && len(seen) == 0 {
		return p, fmt.Errorf("look up app %s: %w", app, s.noAnswer(ctx))
	}
	return p, nil
}

// agreeing holders of a record are enough.
const agreeing = 3

// Resolve finds a node's record by its id alone. The error is ErrNotFound,
// with what to do about it.
func (s *Store) Resolve(ctx context.Context, id protocol.NodeID) (*protocol.Record, error) {
	sides, err := s.waitReady(ctx)
	if err != nil {
		return s.resolved(id, nil, err)
	}
	results := make(chan resolution, len(sides))
	for _, d := range sides {
		go func() { results <- s.resolveIn(ctx, d, id) }() // waited for below
	}
	var best *protocol.Record
	replies := 0
	for range sides {
		r := <-results
		replies += r.stats.Replies
		s.charge(r.stats.Queries)
		if r.best != nil && (best == nil || r.best.Seq > best.Seq) {
			best = r.best
		}
	}
	err = errors.New("no node of the DHT has its record; is it running, and can it be dialled?")
	if replies == 0 {
		err = s.noAnswer(ctx)
	}
	return s.resolved(id, best, err)
}

type resolution struct {
	best  *protocol.Record
	stats walkStats
}

// resolved ends Resolve, with what is known already if nothing was found.
func (s *Store) resolved(id protocol.NodeID, r *protocol.Record, err error) (*protocol.Record, error) {
	if r != nil {
		return r, nil
	}
	if known, _, _ := s.cache.lookUp(id, time.Now()); known != nil {
		return known, nil
	}
	return nil, fmt.Errorf("resolve %s: %w: %w", id, ErrNotFound, err)
}

// resolveIn asks one of the two DHTs.
func (s *Store) resolveIn(ctx context.Context, d side, id protocol.NodeID) (out resolution) {
	ctx, enough := context.WithCancel(ctx)
	defer enough()
	target := (&item{Key: id, Salt: []byte(protocol.RecordSalt)}).target()
	var mu sync.Mutex
	agree := 0
	take := func(a *reply) {
		if a.Item == nil {
			return
		}
		r, err := itemRecord(a.Item).Verify(id, time.Now())
		if err != nil || id != s.self && !s.cache.see(r, time.Now()) {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		switch {
		case out.best == nil || r.Seq > out.best.Seq:
			out.best, agree = r, 1
		case r.Seq == out.best.Seq:
			agree++
		}
		if agree == agreeing {
			enough()
		}
	}
	ask := func(ctx context.Context, addr netip.AddrPort) (*reply, error) {
		a, err := d.srv.get(ctx, addr, target, 0)
		if err == nil {
			take(a)
		}
		return a, err
	}
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = ask(ctx, d.self) }) // what we hold for others
	_, out.stats = s.survey(ctx, d, target, ask)
	wg.Wait()
	return out
}

// noAnswer is the error where the whole DHT is silent.
func (s *Store) noAnswer(ctx context.Context) error {
	port := 0
	if a, ok := s.cfg.Conn.LocalAddr().(*net.UDPAddr); ok {
		port = a.Port
	}
	err := fmt.Errorf("no node of the DHT answers; is UDP %d open?", port)
	if ctx.Err() != nil {
		return errors.Join(err, ctx.Err())
	}
	return err
}

// waitReady waits until a node of a DHT has answered, and returns the sides
// where one has.
func (s *Store) waitReady(ctx context.Context) ([]side, error) {
	any4, any6 := s.readiness()
	select {
	case <-any4:
	case <-any6:
	case <-ctx.Done():
		return nil, s.noAnswer(ctx)
	}
	return s.readySides(), nil
}

// gather asks who is announced under a key.
func (s *Store) gather(ctx context.Context, d side, key [20]byte, c *candidates) ([]step, walkStats) {
	var wg sync.WaitGroup
	defer wg.Wait()
	ask := func(ctx context.Context, addr netip.AddrPort) (*reply, error) {
		a, err := d.srv.getPeers(ctx, addr, key)
		if err == nil {
			c.offer(ctx, addr, a.Peers)
		}
		return a, err
	}
	wg.Go(func() { _, _ = ask(ctx, d.self) }) // who has announced to us
	return s.survey(ctx, d, key, ask)
}

// survey finds the nodes closest to a target, closest first, by two walks from
// different places: one from the nodes of our table that are closest, and one
// from nodes far away, so that liars around the one do not lead both astray.
// Where the two do not agree, the nodes of both are returned. No node is asked
// twice.
func (s *Store) survey(ctx context.Context, d side, target [20]byte, ask func(context.Context, netip.AddrPort) (*reply, error)) ([]step, walkStats) {
	b := &asked{answers: make(map[netip.AddrPort]*answer)}
	public := d.srv.publicAddr(d.v6)
	do := func(_ context.Context, addr netip.AddrPort) (*reply, error) {
		if addr == d.self || addr == public {
			return nil, errSelf // others name us, too
		}
		return b.once(addr, func() (*reply, error) { return ask(ctx, addr) })
	}
	var far [20]byte
	_, _ = rand.Read(far[:])               // never fails
	far[0] = far[0]&0x7f | ^target[0]&0x80 // the other half
	var seeds []netip.AddrPort
	for _, n := range d.srv.closest(far, d.v6, bucketSize) {
		seeds = append(seeds, n.Addr)
	}
	var second []step
	var stats2 walkStats
	var wg sync.WaitGroup
	if len(seeds) > 0 {
		wg.Go(func() {
			second, stats2 = d.srv.traverse(ctx, walk{target: target, v6: d.v6, seeds: seeds, do: do})
		})
	}
	closest, stats := d.srv.traverse(ctx, walk{target: target, v6: d.v6, do: do})
	wg.Wait()
	for _, st := range second {
		if !slices.ContainsFunc(closest, func(c step) bool { return c.Addr == st.Addr }) {
			closest = append(closest, st)
		}
	}
	own := d.srv.family(d.v6).id()
	closest = slices.DeleteFunc(closest, func(c step) bool { return c.ID == own }) // at another address of ours
	slices.SortFunc(closest, func(a, b step) int {
		da, db := distance(a.ID, target), distance(b.ID, target)
		return bytes.Compare(da[:], db[:])
	})
	queries, replies := b.count()
	return closest, walkStats{Queries: queries, Replies: replies, Rounds: max(stats.Rounds, stats2.Rounds)}
}

// asked has each node asked once, by two walks.
type asked struct {
	mu      sync.Mutex
	answers map[netip.AddrPort]*answer // at most as many as two walks are long
	replies int
}

type answer struct {
	done  chan struct{}
	reply *reply
	err   error
}

func (b *asked) once(addr netip.AddrPort, ask func() (*reply, error)) (*reply, error) {
	b.mu.Lock()
	a := b.answers[addr]
	if a != nil {
		b.mu.Unlock()
		<-a.done
		return a.reply, a.err
	}
	a = &answer{done: make(chan struct{})}
	b.answers[addr] = a
	b.mu.Unlock()
	a.reply, a.err = ask()
	if a.err == nil {
		b.mu.Lock()
		b.replies++
		b.mu.Unlock()
	}
	close(a.done)
	return a.reply, a.err
}

func (b *asked) count() (queries, replies int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.answers), b.replies
}
