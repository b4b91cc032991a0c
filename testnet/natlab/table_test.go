//go:build linux

package natlab_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/peerservers/peerserver/testnet/natlab"
)

// writeTable puts what a run has found into a section of the document that
// NATLAB_TABLE names, if it names one.
func writeTable(section, text string) error {
	path := os.Getenv(envTable)
	if path == "" {
		return nil
	}
	document, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	begin, end := fmt.Sprintf("<!-- %s: written by make matrix -->\n", section), fmt.Sprintf("<!-- end of %s -->\n", section)
	before, rest, ok := strings.Cut(string(document), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no section %q", path, section)
	}
	return os.WriteFile(path, []byte(before+begin+"\n"+text+"\n"+end+after), 0o644)
}

// today is the date of a run.
func today() string { return time.Now().UTC().Format(time.DateOnly) }

func (r *results) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	failed := 0
	for _, o := range r.all {
		if o.failed {
			failed++
		}
	}
	var times []string
	for _, d := range delays {
		times = append(times, fmt.Sprintf("%d ms", d.Milliseconds()))
	}
	text := fmt.Sprintf("Run on %s: %d pairs of peers, %d failed. Seconds are from the later join to the path that is named, with a delay of\n%s one way.\n",
		today(), len(r.all), failed, strings.Join(times, " and of "))
	return text + r.grid("Nodes with TURN", true) + r.grid("Nodes without TURN", false)
}

// grid is the table of all pairs.
func (r *results) grid(title string, turn bool) string {
	var b strings.Builder
	kinds := natlab.Kinds()
	fmt.Fprintf(&b, "\n### %s\n\n| |", title)
	for _, kind := range kinds {
		fmt.Fprintf(&b, " %s |", kind)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(kinds)) + "\n")
	for i, row := range kinds {
		fmt.Fprintf(&b, "| **%s** |", row)
		for j, column := range kinds {
			if j > i {
				b.WriteString(" |")
				continue
			}
			fmt.Fprintf(&b, " %s |", r.entry(column, row, turn))
		}
		b.WriteString("\n")
	}
	return b.String()
}

// entry is one pair: the path, and the seconds at each delay.
func (r *results) entry(a, b natlab.NAT, turn bool) string {
	var paths, seconds []string
	for _, delay := range delays {
		o, ok := r.all[cell{a, b, delay, turn}]
		if !ok {
			continue
		}
		if !slices.Contains(paths, o.path) {
			paths = append(paths, o.path)
		}
		if !o.failed {
			seconds = append(seconds, fmt.Sprintf("%.1f", o.took.Seconds()))
		}
	}
	if len(paths) == 0 {
		return "not tried"
	}
	if len(seconds) == 0 {
		return strings.Join(paths, ", ")
	}
	return strings.Join(paths, ", ") + ", " + strings.Join(seconds, " and ") + " s"
}

// diagonal is the table of browsers, each home with another of its kind.
func diagonal(chromium, golang *results) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Run on %s; paths and seconds as above.\n\n| both homes | Chromium and Chromium | Chromium and Go |\n|---|---|---|\n", today())
	for _, kind := range natlab.Kinds() {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", kind, chromium.entry(kind, kind, true), golang.entry(kind, kind, true))
	}
	return b.String()
}

// trouble is what came of a transfer that was disturbed.
type trouble struct {
	what          string
	before, after string // paths
	took          time.Duration
}

// troubles are those of a test, in the order in which they are listed.
type troubles struct {
	mu  sync.Mutex
	all map[int]trouble
}

func (r *troubles) add(i int, one trouble) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all == nil {
		r.all = make(map[int]trouble)
	}
	r.all[i] = one
}

func (r *troubles) text(of int) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "Run on %s, with a delay of 25 ms one way: %d of %d transfers arrived whole, each byte once.\n\n", today(), len(r.all), of)
	b.WriteString("| what happens | path before | path after | goes on after |\n|---|---|---|---|\n")
	for i := range of {
		if one, ok := r.all[i]; ok {
			fmt.Fprintf(&b, "| %s | %s | %s | %.1f s |\n", one.what, one.before, one.after, one.took.Seconds())
		}
	}
	return b.String()
}
