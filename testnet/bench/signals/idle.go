package signals

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/peerservers/peerserver/testnet/bench/gear"
)

// Waiting is what was measured of connections that wait.
type Waiting struct {
	Opened  float64 // connections per second, until they are members
	OpenCPU float64 // CPU seconds of all servers per 1,000 connections

	// Memory of all servers, in bytes: before, and with the connections that
	// wait; of the difference, for each of them.
	Before, RSS int64
	PerClient   float64
}

// Idle opens connections, makes their clients members, waits, and reports what
// the servers needed for it.
func Idle(ctx context.Context, cfg Config) (*Report, error) {
	r, err := newRun(cfg)
	if err != nil {
		return nil, err
	}
	report := &Report{Config: r.cfg, Machine: gear.ThisMachine()}
	defer r.end()
	before, start := gear.ReadUsage(r.cfg.PIDs), time.Now()
	if err := r.setUp(ctx, false); err != nil {
		return nil, err
	}
	took, n := time.Since(start).Seconds(), float64(len(r.clients))
	after := gear.ReadUsage(r.cfg.PIDs)
	_, _, cpu := gear.Used(before, after)
	w := &Waiting{Opened: n / took, OpenCPU: cpu * 1000 / n}
	fmt.Fprintf(r.cfg.Progress, "waiting %v\n", r.cfg.Settle)
	if err := r.wait(ctx); err != nil {
		return nil, err
	}
	after = gear.ReadUsage(r.cfg.PIDs)
	for i := range r.cfg.PIDs {
		if err := errors.Join(before[i].Err, after[i].Err); err != nil {
			return nil, err
		}
		w.Before, w.RSS = w.Before+before[i].RSS, w.RSS+after[i].RSS
	}
	w.PerClient = float64(w.RSS-w.Before) / n
	report.Waiting, report.Counts, report.Complaint = w, r.totals.counts(), r.complained()
	return report, nil
}

// wait has the connections do what they do when they have nothing to say.
func (r *run) wait(ctx context.Context) error {
	waiting, stop := context.WithTimeout(ctx, r.cfg.Settle)
	defer stop()
	var alive sync.WaitGroup
	alive.Go(func() { r.stayAlive(waiting) })
	alive.Wait()
	return ctx.Err()
}
