// Peers measures what a channel of package peer carries next to one of bare
// pion, and makes the tables of docs/benchmarks.md that are about peers. What
// browsers take to open a channel it is told by -opened, a file of
// testnet/e2e/opening.bench.mjs.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/peerservers/peerserver/testnet/bench/gear"
)

const (
	startMark = "<!-- measured: scripts/bench-peers.sh writes what follows -->\n"
	endMark   = "<!-- end of what was measured of peers -->\n"
)

// opened is what browsers took, in ms, with one server or library.
type opened struct {
	Name  string    `json:"name"`
	Times []float64 `json:"times"`
}

func main() {
	date := flag.String("date", "", "when it is measured")
	commit := flag.String("commit", "", "of what")
	from := flag.String("opened", "", "what browsers took")
	out := flag.String("out", "", "file to put the tables into")
	rounds := flag.Int("rounds", 3, "how often each is measured; the table shows medians")
	lasts := flag.Duration("duration", 3*time.Second, "of each")
	flag.Parse()
	head := fmt.Sprintf("Measured on %s at commit %s.\n\n", *date, *commit)
	if err := run(head, *from, *out, *rounds, *lasts); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func run(head, from, out string, rounds int, lasts time.Duration) error {
	var b strings.Builder
	b.WriteString(head)
	if from != "" {
		if err := openings(&b, from); err != nil {
			return err
		}
	}
	if err := channels(&b, rounds, lasts); err != nil {
		return err
	}
	fmt.Print(b.String())
	if out == "" {
		return nil
	}
	return gear.WriteBetween(out, startMark, endMark, b.String())
}

// openings is the table of what browsers took.
func openings(b *strings.Builder, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	b.WriteString("| from joining to an open channel, Chromium | p50 | p99 | slowest | times |\n|---|---|---|---|---|\n")
	for line := range strings.Lines(string(text)) {
		var o opened
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if len(o.Times) == 0 {
			return fmt.Errorf("%s: nothing was measured of %s", file, o.Name)
		}
		slices.Sort(o.Times)
		at := func(q float64) float64 { return o.Times[min(len(o.Times)-1, int(q*float64(len(o.Times))))] }
		fmt.Fprintf(b, "| %s | %.0f ms | %.0f ms | %.0f ms | %d |\n", o.Name, at(0.5), at(0.99), o.Times[len(o.Times)-1], len(o.Times))
	}
	b.WriteString("\n")
	return nil
}

// channels is the table of what a channel carries.
func channels(b *strings.Builder, rounds int, lasts time.Duration) error {
	const small, large = 100, 60_000
	b.WriteString("| one channel, both ends in one process | messages/s of 100 bytes | MB/s of 60,000 bytes |\n|---|---|---|\n")
	for _, w := range []struct {
		name string
		open func(context.Context) (*way, error)
	}{{"bare pion", barePion}, {"package peer", ours}} {
		var perSecond, rate []float64
		for range rounds {
			n, err := measure(w.open, small, lasts)
			if err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			perSecond = append(perSecond, n)
			if n, err = measure(w.open, large, lasts); err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			rate = append(rate, n*large/1e6)
		}
		slices.Sort(perSecond)
		slices.Sort(rate)
		fmt.Fprintf(b, "| %s | %.0f | %.0f |\n", w.name, perSecond[rounds/2], rate[rounds/2])
	}
	return nil
}
