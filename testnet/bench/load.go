package bench

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/peerservers/peerserver/testnet/bench/gear"
)

const (
	// stallAfter is when a closed loop goes on without the answers it waits for.
	stallAfter = 5 * time.Second
	// Members of real clients announce again before the server forgets them.
	refreshEvery = 30 * time.Second
)

// load lets the clients offer, measures, and waits for what is on its way.
func (r *run) load(ctx context.Context, report *Report) error {
	r.to.Store(math.MaxInt64)
	r.from.Store(math.MaxInt64)
	begin := r.now()
	loading, stop := context.WithCancel(ctx)
	defer stop()
	var parts sync.WaitGroup
	parts.Go(func() { r.refresh(loading) })
	if r.cfg.Rate > 0 {
		fmt.Fprintf(r.cfg.Progress, "open loop, %.0f offers/s\n", r.cfg.Rate)
		parts.Go(func() { r.pace(loading) })
	} else {
		fmt.Fprintln(r.cfg.Progress, "closed loop")
		r.closed.Store(true)
		parts.Go(func() { r.keepGoing(loading) })
	}
	ok := gear.Pause(ctx, r.cfg.Warmup)
	before := gear.ReadUsage(r.cfg.PIDs)
	start, answers := time.Now(), r.totals.answers.Load()
	r.from.Store(r.now())
	ok = ok && gear.Pause(ctx, r.cfg.Duration)
	r.to.Store(r.now())
	seconds, relayed := time.Since(start).Seconds(), r.totals.answers.Load()-answers
	after := gear.ReadUsage(r.cfg.PIDs)
	r.closed.Store(false)
	stop()
	parts.Wait()
	if ok {
		ok = r.settle(ctx)
	}
	if !ok {
		return ctx.Err()
	}
	for _, c := range r.clients {
		if due := c.ledger.close(&r.totals); due >= 0 {
			r.complain(fmt.Errorf("what client %d offered %v after the load began is lost", c.index, time.Duration(due-begin).Round(time.Millisecond)))
		}
	}
	report.Load = newLoad(before, after, seconds, relayed)
	report.Load.Offer, report.Load.Answer, report.Load.Round = r.offers.Latency(), r.answers.Latency(), r.rounds.Latency()
	if r.cfg.Rate > 0 {
		lag := r.lag.Latency()
		report.Load.Lag = &lag
	}
	report.Counts = r.totals.counts()
	return nil
}

// keepGoing starts the closed loop, which the answers keep going, and starts a
// client again that has waited too long.
func (r *run) keepGoing(ctx context.Context) {
	r.turn.Store(int64(r.cfg.Parallel))
	for _, c := range r.clients[:r.cfg.Parallel] {
		c.announce(r.now(), true)
	}
	for gear.Pause(ctx, time.Second) {
		for _, c := range r.clients {
			if now := r.now(); c.ledger.stalled(now - int64(stallAfter)) {
				c.announce(now, true)
			}
		}
	}
}

// goOn follows an announce of c whose offers are all answered by the next one:
// another of c, or of the client whose turn it is.
func (r *run) goOn(c *client) {
	if r.cfg.Parallel == len(r.clients) {
		c.announce(r.now(), true)
		return
	}
	for range r.clients {
		n := r.turn.Add(1) - 1
		if r.clients[n%int64(len(r.clients))].announce(r.now(), false) {
			return
		}
	}
}

// pace is the open loop: announces are due at even distances, whatever comes
// back.
func (r *run) pace(ctx context.Context) {
	every := float64(r.cfg.Offers) / r.cfg.Rate * float64(time.Second)
	order := rand.New(rand.NewPCG(r.cfg.Seed, 2)).Perm(len(r.clients))
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
		r.clients[order[n%len(order)]].announce(due, true)
	}
}

// refresh announces all members again now and then, a few at a time.
func (r *run) refresh(ctx context.Context) {
	for gear.Pause(ctx, refreshEvery/2) {
		pause := refreshEvery / 2 / time.Duration(len(r.clients))
		for _, c := range r.clients {
			for _, s := range c.swarms {
				c.join(s, "")
			}
			if !gear.Pause(ctx, pause) {
				return
			}
		}
	}
}

// settle waits until every offer and announce is answered, or for as long as
// is allowed.
func (r *run) settle(ctx context.Context) bool {
	deadline := time.Now().Add(r.cfg.Grace)
	for time.Now().Before(deadline) {
		open := 0
		for _, c := range r.clients {
			open += c.ledger.open()
		}
		if open == 0 && r.totals.replies.Load() >= r.totals.announces.Load() {
			break
		}
		if !gear.Pause(ctx, 20*time.Millisecond) {
			return false
		}
	}
	// What comes twice may come a little later.
	return gear.Pause(ctx, 200*time.Millisecond)
}
