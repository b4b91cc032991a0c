// Doors measures what it costs to relay signals of PeerJS and y-webrtc through
// one node and through two, next to their reference servers, and makes the
// tables of docs/benchmarks.md that are about it. scripts/bench-doors.sh runs it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/peerservers/peerserver/testnet/bench/gear"
	"github.com/peerservers/peerserver/testnet/bench/signals"
)

const (
	startMark = "<!-- measured: scripts/bench-doors.sh writes what follows -->\n"
	endMark   = "<!-- end of what was measured of doors -->\n"
)

// bench is what the flags say.
type bench struct {
	program, packages, only string
	rounds, idle            int
	duration                time.Duration
}

func main() {
	var b bench
	date := flag.String("date", "", "when it is measured")
	commit := flag.String("commit", "", "of what")
	out := flag.String("out", "", "file to put the tables into")
	flag.StringVar(&b.program, "program", "peerserver", "of the nodes")
	flag.StringVar(&b.packages, "packages", "testnet/e2e", "folder in which the reference servers are installed")
	flag.StringVar(&b.only, "only", "", "rows with this in their name")
	flag.IntVar(&b.rounds, "rounds", 1, "how often each is measured; the tables show medians")
	flag.IntVar(&b.idle, "idle", 5000, "connections that wait")
	flag.DurationVar(&b.duration, "duration", 5*time.Second, "of each load")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := b.run(ctx, *date, *commit, *out); err != nil {
		fmt.Fprintln(os.Stderr, "doors:", err)
		os.Exit(1)
	}
}

func (b *bench) run(ctx context.Context, date, commit, out string) error {
	rows := b.rows()
	if len(rows) == 0 {
		return fmt.Errorf("no row has %q in its name", b.only)
	}
	for round := range b.rounds {
		for _, row := range rows {
			fmt.Fprintf(os.Stderr, "== %s, round %d of %d; load average %s\n", row.name, round+1, b.rounds, gear.LoadAverage())
			if err := b.measure(ctx, row); err != nil {
				return fmt.Errorf("%s: %w", row.name, err)
			}
		}
	}
	text := fmt.Sprintf("Measured on %s at commit %s: %s\n\n", date, commit, machine(rows)) + tables(rows, b.idle)
	fmt.Print(text)
	if out == "" {
		return nil
	}
	return gear.WriteBetween(out, startMark, endMark, text)
}

// row is a row of a table: one load on servers that are started for it.
type row struct {
	name    string
	nodes   int // 0: the reference server
	waiting bool
	cfg     signals.Config
	version string
	reports []*signals.Report
}

// rows are those that are to be measured, table by table.
func (b *bench) rows() (list []*row) {
	loads := []struct {
		name string
		cfg  signals.Config
	}{
		{"PeerJS, saturated", signals.Config{Protocol: signals.PeerJS}},
		{"PeerJS, 1,000 signals/s", signals.Config{Protocol: signals.PeerJS, Rate: 1000}},
		{"y-webrtc, saturated", signals.Config{Protocol: signals.YWebRTC}},
		{"y-webrtc, 1,000 signals/s", signals.Config{Protocol: signals.YWebRTC, Rate: 1000}},
		{"y-webrtc, rooms of 8, 250 signals/s", signals.Config{Protocol: signals.YWebRTC, Room: 8, Rate: 250}},
		{"PeerJS, waiting", signals.Config{Protocol: signals.PeerJS, Clients: b.idle}},
		{"y-webrtc, waiting", signals.Config{Protocol: signals.YWebRTC, Clients: b.idle}},
	}
	for _, l := range loads {
		for nodes := range 3 {
			r := &row{name: l.name, nodes: nodes, waiting: l.cfg.Clients > 0, cfg: l.cfg}
			r.name += []string{", reference server", ", one node", ", two nodes"}[nodes]
			r.cfg.Duration, r.cfg.Progress = b.duration, os.Stderr
			if strings.Contains(r.name, b.only) {
				list = append(list, r)
			}
		}
	}
	return list
}

// measure measures a row once and keeps its report, also one of losses: the
// table shows them.
func (b *bench) measure(ctx context.Context, r *row) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute+b.duration)
	defer cancel()
	var s *signals.Servers
	var err error
	if r.nodes == 0 {
		s, err = signals.StartReference(ctx, r.cfg.Protocol, b.packages)
	} else {
		s, err = signals.StartNodes(ctx, b.program, r.nodes)
	}
	if err != nil {
		return err
	}
	defer s.End()
	cfg, run := r.cfg, signals.Run
	if cfg.URLs, cfg.PIDs, r.version = s.URLs, s.PIDs, s.Name; r.waiting {
		run = signals.Idle
	}
	report, err := run(ctx, cfg)
	if err != nil {
		return err
	}
	if err := report.Err(); err != nil {
		fmt.Fprintln(os.Stderr, "wrong:", err)
	}
	r.reports = append(r.reports, report)
	return nil
}
