package signals

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/peerservers/peerserver/testnet/bench/gear"
)

// dialers is how many connections are opened at a time: a claim of an id may
// wait 300 ms for other nodes.
const dialers = 128

// readyWithin is how long servers have to make clients members, and federated
// ones to learn of each other's.
const readyWithin = 60 * time.Second

// run is one run under way.
type run struct {
	// Static once the clients are connected.
	cfg      Config
	dialect  dialect
	payloads *gear.Payloads
	clients  []*client
	rooms    []atomic.Int64 // when a signal last arrived whole
	epoch    time.Time

	totals   totals
	latency  gear.Histogram
	lag      gear.Histogram // of the open loop's signals
	from, to atomic.Int64
	loading  atomic.Bool // all are members: nothing is refused from here on
	closed   atomic.Bool // the closed loop runs
	ending   atomic.Bool
	readers  sync.WaitGroup

	mu        sync.Mutex
	complaint error
}

func newRun(cfg Config) (*run, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	r := &run{cfg: cfg, dialect: peerjs{}, payloads: gear.NewPayloads(cfg.seed, cfg.Payload), rooms: make([]atomic.Int64, cfg.Clients/cfg.Room), epoch: time.Now()}
	if cfg.Protocol == YWebRTC {
		r.dialect = ywebrtc{}
	}
	for i := range cfg.Clients {
		r.clients = append(r.clients, r.newClient(i))
	}
	return r, nil
}

func (r *run) now() int64 { return int64(time.Since(r.epoch)) }

// within says whether what was due then is measured.
func (r *run) within(due int64) bool { return due >= r.from.Load() && due < r.to.Load() }

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
		if c.socket != nil {
			c.socket.Close()
		}
	}
	r.readers.Wait()
}

// connect opens all connections and makes their clients members.
func (r *run) connect(ctx context.Context) error {
	fmt.Fprintf(r.cfg.Progress, "connecting %d clients\n", len(r.clients))
	return gear.Parallel(ctx, len(r.clients), dialers, func(ctx context.Context, i int) error {
		c := r.clients[i]
		url := r.cfg.URLs[c.server()] + r.dialect.path(c)
		t, err := gear.ParseTarget(url)
		if err != nil {
			return err
		}
		nc, early, err := t.Dial(ctx, i)
		if err != nil {
			return fmt.Errorf("connection %d to %s: %w", i, r.cfg.URLs[c.server()], err)
		}
		c.start(nc, early)
		r.dialect.join(c)
		select {
		case <-c.member:
			return nil
		case <-c.gone:
			return fmt.Errorf("connection %d to %s has ended before it was of use", i, r.cfg.URLs[c.server()])
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
}

// meet waits until the signals of each member reach the others of its room.
func (r *run) meet(ctx context.Context) error {
	fmt.Fprintf(r.cfg.Progress, "waiting for rooms of %d\n", r.cfg.Room)
	return gear.Parallel(ctx, len(r.clients), dialers, func(ctx context.Context, i int) error {
		c := r.clients[i]
		for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
			c.probe()
			for end := time.Now().Add(wait); time.Now().Before(end); {
				if c.reached.Load() == uint64(c.ledger.want) {
					return nil
				}
				if !gear.Pause(ctx, 2*time.Millisecond) {
					return fmt.Errorf("signals of client %d to %s reach members %b, not %b: %w",
						i, r.cfg.URLs[c.server()], c.reached.Load(), c.ledger.want, context.Cause(ctx))
				}
			}
		}
	})
}

// errLate is what setUp ends with when a server takes too long.
var errLate = errors.New("the servers take too long; are they federated?")

// setUp connects all clients and, unless they only wait, has them meet.
func (r *run) setUp(ctx context.Context, meet bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyWithin, errLate)
	defer cancel()
	err := r.connect(ctx)
	if err == nil && meet {
		err = r.meet(ctx)
	}
	if err != nil {
		return r.because(err)
	}
	r.loading.Store(true)
	return nil
}
