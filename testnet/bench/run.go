package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/peerservers/peerserver/testnet/bench/gear"
)

// run is one run under way.
type run struct {
	// Static once the clients are connected.
	cfg     Config
	names   *names
	layout  *layout
	small   bool
	swarms  []swarm
	clients []*client
	epoch   time.Time

	totals                  totals
	offers, answers, rounds gear.Histogram
	lag                     gear.Histogram // of the open loop's announces
	from, to                atomic.Int64
	closed                  atomic.Bool // the closed loop runs
	turn                    atomic.Int64
	ending                  atomic.Bool
	readers                 sync.WaitGroup

	mu        sync.Mutex
	complaint error
}

type swarm struct {
	hash id
	json []byte
}

// replyWithin is how long a server has for the reply to an announce.
const replyWithin = 20 * time.Second

// dialers is how many connections are opened at a time.
const dialers = 32

// Run connects clients to servers, lets them offer and answer, and reports what
// came of it.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	l, err := newLayout(&cfg)
	if err != nil {
		return nil, err
	}
	r := &run{cfg: cfg, names: newNames(cfg.Seed, cfg.Payload), layout: l, small: l.size < smallSwarm, epoch: time.Now()}
	for i := range l.swarms {
		s := swarm{hash: r.names.infoHash(i)}
		s.json = appendID(nil, &s.hash)
		r.swarms = append(r.swarms, s)
	}
	report := newReport(&r.cfg)
	defer r.end()
	if err := r.setUp(ctx, report); err != nil {
		return nil, r.because(err)
	}
	err = r.load(ctx, report)
	report.Complaint = r.complained()
	report.Machine.LoadAfter = gear.LoadAverage()
	return report, err
}

func (r *run) now() int64 { return int64(time.Since(r.epoch)) }

// within says whether what was due then is measured.
func (r *run) within(due int64) bool {
	return due >= r.from.Load() && due < r.to.Load()
}

// complain keeps the first thing that a server did wrong, to be shown.
func (r *run) complain(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.complaint == nil {
		r.complaint = err
	}
}

func (r *run) complained() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.complaint == nil {
		return ""
	}
	return r.complaint.Error()
}

func (r *run) because(err error) error {
	if why := r.complained(); why != "" {
		return fmt.Errorf("%w (%s)", err, why)
	}
	return err
}

func (r *run) end() {
	r.ending.Store(true)
	for _, c := range r.clients {
		c.socket.Close()
	}
	r.readers.Wait()
}

// setUp connects all clients, joins them to their swarms and waits until the
// servers know all of them.
func (r *run) setUp(ctx context.Context, report *Report) error {
	fmt.Fprintf(r.cfg.Progress, "connecting %d clients\n", r.cfg.Clients)
	targets := make([]gear.Target, len(r.cfg.URLs))
	for i, u := range r.cfg.URLs {
		var err error
		if targets[i], err = gear.ParseTarget(u); err != nil {
			return err
		}
	}
	r.clients = make([]*client, 0, r.cfg.Clients)
	list := make([]*client, r.cfg.Clients)
	err := gear.Parallel(ctx, r.cfg.Clients, dialers, func(ctx context.Context, i int) error {
		server := r.layout.server(i)
		nc, early, err := targets[server].Dial(ctx, i)
		if err != nil {
			return fmt.Errorf("connection %d to %s: %w", i, r.cfg.URLs[server], err)
		}
		list[i] = r.newClient(i, nc, early)
		return nil
	})
	for _, c := range list {
		if c != nil {
			r.clients = append(r.clients, c)
		}
	}
	if err != nil {
		return err
	}
	for _, c := range r.clients {
		r.readers.Go(c.read)
	}
	fmt.Fprintf(r.cfg.Progress, "joining %d swarms of %d\n", r.layout.swarms, r.layout.sizeOf(0))
	if err := gear.Parallel(ctx, len(r.clients), dialers, func(ctx context.Context, i int) error { return r.clients[i].joinAll(ctx) }); err != nil {
		return err
	}
	return r.awaitWhole(ctx)
}

// joinAll joins a client to its swarms and waits for the replies.
func (c *client) joinAll(ctx context.Context) error {
	want := c.replies.Load() + int64(len(c.swarms))
	for _, s := range c.swarms {
		c.join(s, "started")
	}
	return c.await(ctx, want)
}

// await waits until so many replies have come.
func (c *client) await(ctx context.Context, replies int64) error {
	t := time.NewTimer(replyWithin)
	defer t.Stop()
	for c.replies.Load() < replies {
		select {
		case <-c.replied:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-t.C:
			return fmt.Errorf("%d of %d announces got no reply within %v", replies-c.replies.Load(), len(c.swarms), replyWithin)
		}
	}
	return nil
}

// awaitWhole waits until each server that has members of a swarm knows of all:
// from then on every offer can go to every other member.
func (r *run) awaitWhole(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyWithin, errors.New("the servers do not learn of each other's members; are they federated?"))
	defer cancel()
	type place struct{ swarm, server int }
	probes := make(map[place]*client)
	var list []place
	for _, c := range r.clients {
		for _, s := range c.swarms {
			// Who offers, if it is one for the swarm: it matters there.
			p := place{s, r.layout.server(c.index)}
			if probes[p] == nil {
				list = append(list, p)
			}
			if probes[p] == nil || c.own == s {
				probes[p] = c
			}
		}
	}
	for i, p := range list {
		c := probes[p]
		for {
			want := c.replies.Load() + 1
			c.join(p.swarm, "")
			if err := c.await(ctx, want); err != nil {
				return err
			}
			if got := c.members.Load(); got >= int64(r.layout.sizeOf(p.swarm)) {
				break
			}
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
				return fmt.Errorf("%s counts %d of %d members after %d of %d swarms: %w",
					r.cfg.URLs[p.server], c.members.Load(), r.layout.sizeOf(p.swarm), i, len(list), context.Cause(ctx))
			}
		}
	}
	return nil
}
