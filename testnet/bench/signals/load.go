package signals

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/peerservers/peerserver/testnet/bench/gear"
)

// stallAfter is when a closed loop goes on without the signals it waits for.
const stallAfter = 3 * time.Second

// Run connects clients to servers, lets them signal, and reports what came of
// it.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	r, err := newRun(cfg)
	if err != nil {
		return nil, err
	}
	report := &Report{Config: r.cfg, Machine: gear.ThisMachine()}
	defer r.end()
	if err := r.setUp(ctx, true); err != nil {
		return nil, err
	}
	if err := r.load(ctx, report); err != nil {
		return nil, err
	}
	report.Counts, report.Complaint = r.totals.counts(), r.complained()
	return report, nil
}

// load lets the clients signal, measures, and waits for what is on its way.
func (r *run) load(ctx context.Context, report *Report) error {
	r.to.Store(math.MaxInt64)
	r.from.Store(math.MaxInt64)
	loading, stop := context.WithCancel(ctx)
	defer stop()
	var parts sync.WaitGroup
	parts.Go(func() { r.stayAlive(loading) })
	if r.cfg.Rate > 0 {
		fmt.Fprintf(r.cfg.Progress, "open loop, %.0f signals/s\n", r.cfg.Rate)
		parts.Go(func() { r.pace(loading) })
	} else {
		fmt.Fprintln(r.cfg.Progress, "closed loop")
		r.closed.Store(true)
		parts.Go(func() { r.keepGoing(loading) })
	}
	ok := gear.Pause(ctx, r.cfg.Warmup)
	before, relayed := gear.ReadUsage(r.cfg.PIDs), r.totals.relayed.Load()
	start := time.Now()
	r.from.Store(r.now())
	ok = ok && gear.Pause(ctx, r.cfg.Duration)
	r.to.Store(r.now())
	seconds := time.Since(start).Seconds()
	relayed = r.totals.relayed.Load() - relayed
	after := gear.ReadUsage(r.cfg.PIDs)
	r.closed.Store(false)
	stop()
	parts.Wait()
	if !ok || !r.settle(ctx) {
		return ctx.Err()
	}
	for _, c := range r.clients {
		c.ledger.close(&r.totals)
	}
	report.Load = newLoad(before, after, seconds, relayed)
	report.Load.Latency, report.Load.Lag = r.latency.Latency(), r.lag.Latency()
	return nil
}

// keepGoing starts the closed loop, which the signals keep going, and starts a
// room again that has waited too long.
func (r *run) keepGoing(ctx context.Context) {
	for {
		for room := range r.rooms {
			now := r.now()
			if last := r.rooms[room].Load(); last > 0 && now-last < int64(stallAfter) {
				continue
			}
			r.rooms[room].Store(now)
			for n := range r.cfg.Depth {
				r.clients[room*r.cfg.Room].mate(n).signal(r.now())
			}
		}
		if !gear.Pause(ctx, time.Second) {
			return
		}
	}
}

// pace is the open loop: signals are due at even distances, whatever comes back.
func (r *run) pace(ctx context.Context) {
	every := float64(time.Second) / r.cfg.Rate
	order := rand.New(rand.NewPCG(r.cfg.seed, 2)).Perm(len(r.clients))
	alarm := gear.NewAlarm()
	start := r.now()
	for n := 0; ctx.Err() == nil; n++ {
		due := start + int64(float64(n)*every)
		for wait := due - r.now(); wait > 0 && ctx.Err() == nil; wait = due - r.now() {
			alarm.Sleep(min(time.Duration(wait), 100*time.Millisecond))
		}
		if r.within(due) {
			r.lag.Add(r.now() - due)
		}
		r.clients[order[n%len(order)]].signal(due)
	}
}

// stayAlive sends what clients send when they have nothing to say.
func (r *run) stayAlive(ctx context.Context) {
	text, every := r.dialect.alive()
	for {
		for _, c := range r.clients {
			if !gear.Pause(ctx, every/time.Duration(len(r.clients))) {
				return
			}
			c.send(func(b []byte) []byte { return append(b, text...) })
		}
	}
}

// settle waits until every signal has arrived, or for as long as is allowed.
func (r *run) settle(ctx context.Context) bool {
	for deadline := time.Now().Add(r.cfg.Grace); time.Now().Before(deadline); {
		open := 0
		for _, c := range r.clients {
			open += c.ledger.open()
		}
		if open == 0 {
			break
		}
		if !gear.Pause(ctx, 20*time.Millisecond) {
			return false
		}
	}
	// What comes twice may come a little later.
	return gear.Pause(ctx, 200*time.Millisecond)
}
