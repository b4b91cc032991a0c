package bench

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/peerservers/peerserver/testnet/bench/gear"
)

// Report is what a run found. Load or Idle is nil when that was not measured.
type Report struct {
	Machine gear.Machine `json:"machine"`
	URLs    []string     `json:"urls"`

	Layout   Layout  `json:"layout,omitempty"`
	Clients  int     `json:"clients,omitempty"`
	Parallel int     `json:"parallel,omitempty"` // announces under way at a time; all of an open loop
	Swarm    int     `json:"swarm,omitempty"`
	PerOffer int     `json:"offers_per_announce,omitempty"`
	Payload  int     `json:"payload_bytes,omitempty"`
	Rate     float64 `json:"rate,omitempty"` // offers/s of an open loop; 0: closed

	Load   *Load       `json:"load,omitempty"`
	Counts Counts      `json:"counts"`
	Idle   *IdleReport `json:"idle,omitempty"`

	// Complaint is the first thing that a server did wrong.
	Complaint string `json:"complaint,omitempty"`
}

func newReport(cfg *Config) *Report {
	return &Report{
		Machine: gear.ThisMachine(), URLs: cfg.URLs, Layout: cfg.Layout, Clients: cfg.Clients, Parallel: cfg.Parallel,
		Swarm: cfg.Swarm, PerOffer: cfg.Offers, Payload: cfg.Payload, Rate: cfg.Rate,
	}
}

// Load is what was measured under load. Latencies are in milliseconds: Offer
// from when an announce was due until a member had the offer, Answer from when
// that member answered until the answer had come, Round both.
type Load struct {
	Seconds float64 `json:"seconds"`
	Relayed uint64  `json:"relayed"` // offers that were answered
	PerSec  float64 `json:"offers_per_second"`

	// CPUPer1000 are the CPU seconds of all servers per 1,000 relayed offers;
	// 0 when not all could be read.
	CPUPer1000 float64       `json:"cpu_seconds_per_1000,omitempty"`
	Servers    []gear.Server `json:"servers,omitempty"`
	Generator  gear.Server   `json:"generator"`

	Offer  gear.Latency  `json:"offer_ms"`
	Answer gear.Latency  `json:"answer_ms"`
	Round  gear.Latency  `json:"round_ms"`
	Lag    *gear.Latency `json:"lag_ms,omitempty"` // of an open loop: how late announces were sent
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

// Write writes a report for people.
func (r *Report) Write(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	row("servers", "%s", strings.Join(r.URLs, " "))
	row("machine", "%d cores, %s, %s, load %s before and %s after", r.Machine.Cores, r.Machine.OS, r.Machine.Go, r.Machine.LoadBefore, r.Machine.LoadAfter)
	if r.Load != nil {
		r.writeLoad(row)
	}
	if r.Idle != nil {
		r.Idle.write(row)
	}
	if r.Complaint != "" {
		row("first complaint", "%s", r.Complaint)
	}
	return t.Flush()
}

func (r *Report) writeLoad(row func(string, string, ...any)) {
	l, c := r.Load, r.Counts
	loop := fmt.Sprintf("closed loop of %d announces", r.Parallel)
	if r.Rate > 0 {
		loop = fmt.Sprintf("open loop, %.0f offers/s", r.Rate)
	}
	row("load", "%s, %d connections, swarms of %d (%s), %d offers of %d bytes an announce",
		loop, r.Clients, r.Swarm, r.Layout, r.PerOffer, r.Payload)
	row("relayed", "%d offers and their answers in %.1f s, %.0f/s", l.Relayed, l.Seconds, l.PerSec)
	if l.CPUPer1000 > 0 {
		row("CPU s per 1,000 offers", "%.4f", l.CPUPer1000)
	}
	for _, s := range l.Servers {
		if s.Error != "" {
			row(fmt.Sprintf("process %d", s.PID), "%s", s.Error)
			continue
		}
		row(fmt.Sprintf("process %d", s.PID), "%.2f s CPU, %s RSS", s.CPU, megabytes(s.RSS))
	}
	row("this generator", "%.2f s CPU, %s RSS", l.Generator.CPU, megabytes(l.Generator.RSS))
	for _, d := range []struct {
		name string
		of   *gear.Latency
	}{{"offer", &l.Offer}, {"answer", &l.Answer}, {"both", &l.Round}, {"sent late by", l.Lag}} {
		if d.of != nil {
			row(d.name, "p50 %.2f  p90 %.2f  p99 %.2f  p99.9 %.2f  max %.1f ms", d.of.P50, d.of.P90, d.of.P99, d.of.P999, d.of.Max)
		}
	}
	row("lost", "%d offers, %d answers, %d replies", c.OffersLost, c.AnswersLost, c.RepliesLost)
	row("duplicated", "%d", c.Duplicated)
	row("misrouted", "%d", c.Misrouted)
	row("changed", "%d", c.Changed)
	row("refused", "%d messages, %d connections closed by a server", c.Refused, c.Closed)
	if c.Again > 0 {
		row("second receivers", "%d, as small swarms have", c.Again)
	}
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

// Err says what is wrong with what was found, nil when nothing is.
func (r *Report) Err() error {
	if r.Load != nil && r.Counts.Answers == 0 {
		return fmt.Errorf("no offer was answered")
	}
	if c := &r.Counts; c.Wrong() > 0 {
		return fmt.Errorf("lost %d, duplicated %d, misrouted %d, changed %d, refused %d, closed %d",
			c.OffersLost+c.AnswersLost+c.RepliesLost, c.Duplicated, c.Misrouted, c.Changed, c.Refused, c.Closed)
	}
	return nil
}
