package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/peerservers/peerserver/testnet/bench/signals"
)

// tables are those of what was measured.
func tables(rows []*row, idle int) string {
	var b strings.Builder
	split := slices.IndexFunc(rows, func(r *row) bool { return r.waiting })
	if split < 0 {
		split = len(rows)
	}
	if split > 0 {
		loads(&b, rows[:split])
	}
	if split < len(rows) {
		waiting(&b, rows[split:], idle)
	}
	return b.String()
}

// loads is the table of the rows under load.
func loads(b *strings.Builder, rows []*row) {
	b.WriteString("| servers and load | signals/s | CPU s per 1,000 signals | p50 / p99 / p99.9 | RSS in all | lost, doubled, out of order, to others, changed |\n|---|---|---|---|---|---|\n")
	for _, r := range rows {
		fmt.Fprintf(b, "| %s | %s | %.4f | %.2f / %.2f / %.1f ms | %.0f MB | %s |\n", r.title(),
			thousands(r.median(func(x *signals.Report) float64 { return x.Load.PerSec })),
			r.median(func(x *signals.Report) float64 { return x.Load.CPUPer1000 }),
			r.median(func(x *signals.Report) float64 { return x.Load.Latency.P50 }),
			r.median(func(x *signals.Report) float64 { return x.Load.Latency.P99 }),
			r.median(func(x *signals.Report) float64 { return x.Load.Latency.P999 }),
			r.median(func(x *signals.Report) float64 { return float64(x.Load.RSS()) })/1e6, r.wrong())
	}
}

// waiting is the table of the rows whose connections wait.
func waiting(b *strings.Builder, rows []*row, idle int) {
	fmt.Fprintf(b, "\n| %s connections that wait | opened/s | CPU s per 1,000 opened | RSS per connection | RSS in all | refused or closed |\n|---|---|---|---|---|---|\n", thousands(float64(idle)))
	for _, r := range rows {
		fmt.Fprintf(b, "| %s | %s | %.4f | %.1f KB | %.0f MB | %.0f |\n", r.title(),
			thousands(r.median(func(x *signals.Report) float64 { return x.Waiting.Opened })),
			r.median(func(x *signals.Report) float64 { return x.Waiting.OpenCPU }),
			r.median(func(x *signals.Report) float64 { return x.Waiting.PerClient })/1e3,
			r.median(func(x *signals.Report) float64 { return float64(x.Waiting.RSS) })/1e6,
			r.median(func(x *signals.Report) float64 { return float64(x.Counts.Wrong()) }))
	}
}

// title is the row's name, with what the reference server is.
func (r *row) title() string {
	if r.version == "" {
		return r.name
	}
	return strings.Replace(r.name, "reference server", r.version, 1)
}

// median is that of a number of each report.
func (r *row) median(of func(*signals.Report) float64) float64 {
	list := make([]float64, 0, len(r.reports))
	for _, report := range r.reports {
		list = append(list, of(report))
	}
	slices.Sort(list)
	return (list[(len(list)-1)/2] + list[len(list)/2]) / 2
}

// wrong sums what went wrong in all rounds.
func (r *row) wrong() string {
	var c signals.Counts
	for _, report := range r.reports {
		c.Add(report.Counts)
	}
	text := fmt.Sprintf("%d, %d, %d, %d, %d", c.Lost, c.Duplicated, c.Disordered, c.Misrouted, c.Changed)
	if other := c.Refused + c.Closed; other > 0 {
		text += fmt.Sprintf("; refused or closed %d", other)
	}
	return text
}

// machine says where and how busy it was.
func machine(rows []*row) string {
	var loads []float64
	for _, r := range rows {
		for _, report := range r.reports {
			var minute float64
			if _, err := fmt.Sscan(report.Machine.LoadBefore, &minute); err == nil {
				loads = append(loads, minute)
			}
		}
	}
	m := rows[0].reports[0].Machine
	text := fmt.Sprintf("%d cores (%s), %s, Linux %s, %s.", m.Cores, m.CPU, m.OS, m.Kernel, m.Go)
	if n := len(rows[0].reports); n > 1 {
		text += fmt.Sprintf(" Medians of %d rounds.", n)
	}
	if len(loads) > 0 {
		text += fmt.Sprintf("\nThe load average before the rows was %.1f to %.1f.", slices.Min(loads), slices.Max(loads))
	}
	return text
}

func thousands(v float64) string {
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
