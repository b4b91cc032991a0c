// Table makes the tables of docs/benchmarks.md from reports of `peerserver
// bench --json`, which scripts/bench.sh gives it, a name before each. It prints
// them, and with -out puts them into that file between its marks.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/peerservers/peerserver/testnet/bench"
	"github.com/peerservers/peerserver/testnet/bench/gear"
)

const (
	startMark = "<!-- measured: scripts/bench.sh writes what follows -->\n"
	endMark   = "<!-- end of what was measured -->\n"
)

func main() {
	date := flag.String("date", "", "when it was measured")
	commit := flag.String("commit", "", "of what")
	out := flag.String("out", "", "file to put the tables into")
	flag.Parse()
	if err := run(os.Stdin, os.Stdout, *date, *commit, *out); err != nil {
		fmt.Fprintln(os.Stderr, "table:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, stdout io.Writer, date, commit, out string) error {
	r, err := read(in)
	if err != nil {
		return err
	}
	text := r.tables(date, commit)
	if _, err := io.WriteString(stdout, text); err != nil || out == "" {
		return err
	}
	return gear.WriteBetween(out, startMark, endMark, text)
}

// results are the reports of each row, one for each round.
type results map[string][]*bench.Report

func read(in io.Reader) (results, error) {
	r := make(results)
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		name, text, ok := strings.Cut(lines.Text(), "\t")
		report := new(bench.Report)
		if err := json.Unmarshal([]byte(text), report); err != nil || !ok {
			return nil, fmt.Errorf("%q: %w", name, err)
		}
		r[name] = append(r[name], report)
	}
	if len(r) == 0 {
		return nil, errors.New("no reports")
	}
	return r, lines.Err()
}

// median is that of a number of each report of a row.
func (r results) median(row string, of func(*bench.Report) float64) float64 {
	var list []float64
	for _, report := range r[row] {
		list = append(list, of(report))
	}
	if len(list) == 0 {
		return 0
	}
	slices.Sort(list)
	return (list[(len(list)-1)/2] + list[len(list)/2]) / 2
}

func cpu(r *bench.Report) float64 { return r.Load.CPUPer1000 }

// loadRow is a row of the first table.
type loadRow struct {
	key, name     string
	cpuBudget     func(results) float64 // 0: none
	latencyBudget float64               // of p99; 0: none
}

func fixed(budget float64) func(results) float64 { return func(results) float64 { return budget } }

func none(results) float64 { return 0 }

// twice is a budget relative to another row of the same run.
func twice(row string) func(results) float64 {
	return func(r results) float64 { return 2 * r.median(row, cpu) }
}

// The budgets are decided before anything is measured; docs/benchmarks.md says
// what they are for.
var loadRows = []loadRow{
	{"full-npm", "npm bittorrent-tracker, saturated", none, 0},
	{"full-one", "one node, saturated", fixed(0.020), 0},
	{"full-one-cross", "one node, saturated, a swarm for each client", none, 0},
	{"full-two", "two nodes, saturated, every offer crosses", twice("full-one-cross"), 0},
	{"some-one", "one node, 12 announces at a time, a swarm for each client", none, 0},
	{"some-two", "two nodes, 12 announces at a time, every offer crosses", twice("some-one"), 2},
	{"few-one", "one node, 4 announces at a time, a swarm for each client", none, 0},
	{"few-two", "two nodes, 4 announces at a time, every offer crosses", none, 2},
	{"rate-npm", "npm bittorrent-tracker, 1,000 offers/s", none, 0},
	{"rate-one", "one node, 1,000 offers/s", fixed(0.065), 0.7},
	{"rate-two", "two nodes, 1,000 offers/s, every offer crosses", none, 0},
}

func (r results) tables(date, commit string) string {
	var b strings.Builder
	r.machine(&b, date, commit)
	b.WriteString("| servers and load | offers/s | CPU s per 1,000 offers | budget | offer p50 / p99 / p99.9 | answer p50 / p99 / p99.9 | budget p99 | lost, duplicated, misrouted, changed |\n")
	b.WriteString("|---|---|---|---|---|---|---|---|\n")
	for _, row := range loadRows {
		if len(r[row.key]) == 0 {
			continue
		}
		latency := func(of func(*bench.Load) gear.Latency) string {
			q := func(of2 func(gear.Latency) float64) float64 {
				return r.median(row.key, func(x *bench.Report) float64 { return of2(of(x.Load)) })
			}
			return fmt.Sprintf("%.2f / %.2f / %.1f ms", q(func(l gear.Latency) float64 { return l.P50 }),
				q(func(l gear.Latency) float64 { return l.P99 }), q(func(l gear.Latency) float64 { return l.P999 }))
		}
		fmt.Fprintf(&b, "| %s | %s | %.4f | %s | %s | %s | %s | %s |\n", row.name,
			thousands(r.median(row.key, func(x *bench.Report) float64 { return x.Load.PerSec })),
			r.median(row.key, cpu), atMost(row.cpuBudget(r), "%.3f"),
			latency(func(l *bench.Load) gear.Latency { return l.Offer }), latency(func(l *bench.Load) gear.Latency { return l.Answer }),
			atMost(row.latencyBudget, "%.1f ms"), r.wrong(row.key))
	}
	r.idle(&b)
	return b.String()
}

func atMost(budget float64, format string) string {
	if budget == 0 {
		return ""
	}
	return "at most " + fmt.Sprintf(format, budget)
}

// wrong sums what went wrong in all rounds.
func (r results) wrong(row string) string {
	var lost, duplicated, misrouted, changed, other uint64
	for _, x := range r[row] {
		c := x.Counts
		lost += c.OffersLost + c.AnswersLost + c.RepliesLost
		duplicated, misrouted, changed = duplicated+c.Duplicated, misrouted+c.Misrouted, changed+c.Changed
		other += c.Refused + c.Closed
	}
	text := fmt.Sprintf("%d, %d, %d, %d", lost, duplicated, misrouted, changed)
	if other > 0 {
		text += fmt.Sprintf("; refused or closed %d", other)
	}
	return text
}

func (r results) machine(b *strings.Builder, date, commit string) {
	var m gear.Machine
	rounds := 0
	var loads []float64
	for _, row := range loadRows {
		for _, x := range r[row.key] {
			m = x.Machine
			var minute float64
			if _, err := fmt.Sscan(x.Machine.LoadBefore, &minute); err == nil {
				loads = append(loads, minute)
			}
		}
		rounds = max(rounds, len(r[row.key]))
	}
	slices.Sort(loads)
	fmt.Fprintf(b, "Measured on %s at commit %s: %d cores (%s), %s, Linux %s, %s. Medians of %d rounds.\n",
		date, commit, m.Cores, m.CPU, m.OS, m.Kernel, m.Go, rounds)
	if len(loads) > 0 {
		fmt.Fprintf(b, "Servers and load generator share the cores. The load average before the rows was %.1f to %.1f; what a row itself leaves behind is some 2.\n\n", loads[0], loads[len(loads)-1])
	}
}

func (r results) idle(b *strings.Builder) {
	names := []struct {
		key, name                    string
		perClient, whole, openBudget float64
	}{
		{"idle-npm", "npm bittorrent-tracker", 0, 0, 0},
		{"idle-one", "one node", 5300, 115e6, 0.065},
	}
	head := false
	for _, n := range names {
		if len(r[n.key]) == 0 {
			continue
		}
		if !head {
			head = true
			fmt.Fprintf(b, "\n| %s connections, each announced once | opened/s | CPU s per 1,000 opened | budget | CPU s per 1,000 first announces | RSS per connection | budget | RSS in all | budget |\n", thousands(float64(r[n.key][0].Idle.Clients)))
			b.WriteString("|---|---|---|---|---|---|---|---|---|\n")
		}
		of := func(f func(*bench.IdleReport) float64) float64 {
			return r.median(n.key, func(x *bench.Report) float64 { return f(x.Idle) })
		}
		fmt.Fprintf(b, "| %s | %s | %.4f | %s | %.4f | %.1f KB | %s | %.0f MB | %s |\n", n.name,
			thousands(of(func(i *bench.IdleReport) float64 { return i.Opened })),
			of(func(i *bench.IdleReport) float64 { return i.OpenCPU }), atMost(n.openBudget, "%.3f"),
			of(func(i *bench.IdleReport) float64 { return i.AnnounceCPU }),
			of(func(i *bench.IdleReport) float64 { return i.PerClient })/1e3, atMost(n.perClient/1e3, "%.1f KB"),
			of(func(i *bench.IdleReport) float64 { return float64(i.RSS) })/1e6, atMost(n.whole/1e6, "%.0f MB"))
	}
}

func thousands(v float64) string {
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
