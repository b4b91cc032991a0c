package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"
)

// nodeSkips is a line of Node's test runner, which some tests run. It counts
// what it skipped and calls that a success.
var nodeSkips = regexp.MustCompile(`^(#|ℹ) (skipped|todo) [1-9]`)

// event is a line of go test -json; see go doc test2json.
type event struct {
	Action, Package, ImportPath, Test, Output string
	FailedBuild                               string
	Elapsed                                   float64
}

type key struct{ pkg, test string }

// report turns events into lines for people.
type report struct {
	out     io.Writer
	output  map[key][]string // what a test or package printed so far
	builds  map[string][]string
	running map[key]time.Time
	said    time.Time // when a line was last printed
	tests   map[string]int
	skips   []string
	failed  []string
}

// quiet is how long nothing is said while something runs.
const quiet = time.Minute

func newReport(out io.Writer) *report {
	return &report{
		out: out, output: map[key][]string{}, builds: map[string][]string{}, running: map[key]time.Time{},
		said: time.Now(), tests: map[string]int{},
	}
}

func (r *report) read(in io.Reader) error {
	lines := make(chan string)
	done := make(chan error, 1)
	go func() {
		defer close(lines)
		s := bufio.NewScanner(in)
		s.Buffer(nil, 16<<20)
		for s.Scan() {
			lines <- s.Text()
		}
		// A line too long ends the scan; what is left must still be taken, or go test would wait for us.
		_, copyErr := io.Copy(io.Discard, in)
		done <- errors.Join(s.Err(), copyErr)
	}()
	ticker := time.NewTicker(quiet / 6)
	defer ticker.Stop()
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				return <-done
			}
			var e event
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				r.say("%s", line)
				continue
			}
			r.take(e, time.Now())
		case now := <-ticker.C:
			r.remind(now)
		}
	}
}

func (r *report) take(e event, now time.Time) {
	k := key{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		r.builds[e.ImportPath] = append(r.builds[e.ImportPath], e.Output)
	case "run", "start":
		r.running[k] = now
	case "output":
		r.output[k] = append(r.output[k], e.Output)
		if nodeSkips.MatchString(e.Output) {
			r.skips = append(r.skips, strings.TrimSpace(e.Package+" "+e.Test)+": "+strings.TrimSpace(e.Output))
		}
	case "pass", "skip", "fail":
		r.end(e, k)
		delete(r.running, k)
		delete(r.output, k)
	}
}

func (r *report) end(e event, k key) {
	name := strings.TrimSpace(e.Package + " " + e.Test)
	switch {
	case e.Test == "" && e.Action == "skip": // a package without tests
	case e.Action == "skip":
		r.skips = append(r.skips, name+": "+reason(r.output[k]))
	case e.Action == "fail":
		r.failed = append(r.failed, name)
		r.say("FAIL  %s  %.1fs", name, e.Elapsed)
		r.show(r.builds[e.FailedBuild])
		r.show(r.output[k])
		if e.Test == "" {
			r.showUnfinished(e.Package)
		}
	case e.Test == "":
		from := ""
		if slices.ContainsFunc(r.output[k], func(s string) bool { return strings.HasSuffix(s, "\t(cached)\n") }) {
			from = ", cached"
		}
		r.say("ok    %s  %.1fs  (%d tests%s)", name, e.Elapsed, r.tests[e.Package], from)
	default:
		r.tests[e.Package]++
	}
}

// shown is how many lines of one test's output are printed, half of them from
// its end: a race in a hot path fills thousands.
const shown = 400

func (r *report) show(lines []string) {
	for i, line := range lines {
		if left := len(lines) - shown; left > 0 && i >= shown/2 && i < shown/2+left {
			if i == shown/2 {
				fmt.Fprintf(r.out, "    (%d lines left out)\n", left)
			}
			continue
		}
		fmt.Fprint(r.out, "    ", line)
	}
}

// showUnfinished prints what the tests said that ran when their process ended.
func (r *report) showUnfinished(pkg string) {
	for k, lines := range r.output {
		if k.pkg == pkg && k.test != "" {
			r.say("      %s did not finish:", k.test)
			r.show(lines)
			delete(r.output, k)
			delete(r.running, k)
		}
	}
}

// reason is what a skipped test logged last before its result line.
func reason(output []string) string {
	last := "no reason given"
	for _, line := range output {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "=== ") && !strings.HasPrefix(line, "--- ") {
			last = line
		}
	}
	return last
}

// remind names the tests that run when nothing was said for a while.
func (r *report) remind(now time.Time) {
	if now.Sub(r.said) < quiet {
		return
	}
	var names []string
	for k, since := range r.running {
		if k.test != "" {
			names = append(names, fmt.Sprintf("%s %s (%s)", k.pkg, k.test, now.Sub(since).Round(time.Second)))
		}
	}
	slices.Sort(names)
	if len(names) == 0 {
		names = []string{"building"}
	}
	r.say("...   %s", strings.Join(names, ", "))
}

func (r *report) say(format string, args ...any) {
	r.said = time.Now()
	fmt.Fprintf(r.out, format+"\n", args...)
}

// finish lists the skips and says whether all is well.
func (r *report) finish(err error, ci bool) error {
	for _, s := range r.skips {
		r.say("SKIP  %s", s)
	}
	switch {
	case len(r.failed) > 0:
		return fmt.Errorf("%d failed: %s", len(r.failed), strings.Join(r.failed, ", "))
	case err != nil:
		return err
	case len(r.skips) > 0 && ci:
		return fmt.Errorf("%d skipped, and CI=true allows none", len(r.skips))
	}
	return nil
}
