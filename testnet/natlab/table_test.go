//go:build linux

package natlab_test

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/peerservers/peerserver/testnet/natlab"
)

// What is between these in the document is the run's to write.
const (
	tableBegin = "<!-- what follows is written by make matrix -->\n"
	tableEnd   = "<!-- what was written by make matrix ends here -->\n"
)

// write puts the tables of a run into a document.
func (r *results) write(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(text), tableBegin)
	_, after, ok2 := strings.Cut(rest, tableEnd)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no place for the table", path)
	}
	return os.WriteFile(path, []byte(before+tableBegin+"\n"+r.text()+tableEnd+after), 0o644)
}

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
	text := fmt.Sprintf("Run on %s: %d pairs of peers, %d failed. Seconds are from the second one's join to the path that is named, with a delay of %s one way.\n",
		time.Now().UTC().Format(time.DateOnly), len(r.all), failed, strings.Join(times, " and of "))
	return text + r.grid("Nodes with TURN", true) + r.grid("Nodes without TURN", false) + "\n"
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
		if len(paths) == 0 || paths[len(paths)-1] != o.path {
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
