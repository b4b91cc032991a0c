package signals

import (
	"errors"
	"fmt"

	"github.com/peerservers/peerserver/testnet/bench/gear"
)

// Report is what a run found. Load is of Run, Waiting of Idle.
type Report struct {
	Config  Config // completed
	Machine gear.Machine
	Load    *Load
	Waiting *Waiting
	Counts  Counts

	// Complaint is the first thing that a server did wrong.
	Complaint string
}

// Load is what was measured under load.
type Load struct {
	Seconds float64
	Relayed uint64 // signals that all members got
	PerSec  float64

	// CPUPer1000 are the CPU seconds of all servers per 1,000 relayed signals;
	// 0 when not all could be read.
	CPUPer1000 float64
	Servers    []gear.Server
	Generator  gear.Server

	// Latency is from when a signal was due until another member had it; an echo
	// is not in it. Lag is how late an open loop sent them.
	Latency, Lag gear.Latency
}

func newLoad(before, after []gear.Usage, seconds float64, relayed uint64) *Load {
	l := &Load{Seconds: seconds, Relayed: relayed, PerSec: float64(relayed) / seconds}
	var cpu float64
	l.Servers, l.Generator, cpu = gear.Used(before, after)
	if relayed > 0 {
		l.CPUPer1000 = cpu * 1000 / float64(relayed)
	}
	return l
}

// RSS is the memory of all servers, in bytes, at the end of the measurement.
func (l *Load) RSS() (sum int64) {
	for _, s := range l.Servers {
		sum += s.RSS
	}
	return sum
}

// Err says what is wrong with what was found, nil when nothing is.
func (r *Report) Err() error {
	c := &r.Counts
	switch {
	case c.Wrong() > 0:
		return fmt.Errorf("lost %d, duplicated %d, misrouted %d, disordered %d, changed %d, refused %d, closed %d: %s",
			c.Lost, c.Duplicated, c.Misrouted, c.Disordered, c.Changed, c.Refused, c.Closed, r.Complaint)
	case r.Load != nil && c.Relayed == 0:
		return errors.New("no signal was relayed")
	case r.Load != nil && c.Relayed != c.Sent:
		return fmt.Errorf("%d signals were sent and %d relayed", c.Sent, c.Relayed)
	}
	return nil
}
