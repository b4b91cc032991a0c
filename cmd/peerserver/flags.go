package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
)

const envPrefix = "PEERSERVER_"

// parseFlags sets flags from the command line, else from the environment, else
// from the file that --config names.
//
// The file has lines of the form name = value: what flags and the environment
// can say is a flat list of names with texts, so nothing richer is needed, and
// the one form can be turned into the others by hand.
func parseFlags(fs *flag.FlagSet, args []string, positional bool, env func(string) (string, bool)) error {
	config := fs.String("config", "", "`file` of lines name = value, with the names of these flags; # starts a comment")
	// Errors and help are the caller's to print.
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	if err := fs.Parse(args); err != nil {
		return flagError(fs, err)
	}
	if fs.NArg() > 0 && !positional {
		return fmt.Errorf("%q is not a flag; see \"peerserver %s --help\"", fs.Arg(0), fs.Name())
	}
	given := make(map[string]bool)
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	var bad error
	fs.VisitAll(func(f *flag.Flag) {
		name := envName(f.Name)
		if v, ok := env(name); ok && !given[f.Name] && bad == nil {
			given[f.Name] = true
			if err := setFlag(fs, f.Name, v); err != nil {
				bad = fmt.Errorf("%s: %w", name, err)
			}
		}
	})
	if bad != nil || *config == "" {
		return bad
	}
	f, err := os.Open(*config)
	if err != nil {
		return fmt.Errorf("--config: %w", err)
	}
	defer f.Close()
	return readConfig(fs, f, *config, given)
}

// flagError says more of a flag that does not exist.
func flagError(fs *flag.FlagSet, err error) error {
	if errors.Is(err, flag.ErrHelp) {
		return err
	}
	if name, ok := strings.CutPrefix(err.Error(), "flag provided but not defined: -"); ok {
		err = fmt.Errorf("there is no flag --%s%s", name, didYouMean("--"+name, dashed(flagNames(fs))))
	}
	return fmt.Errorf("%w; see \"peerserver %s --help\"", err, fs.Name())
}

func envName(flag string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

func flagNames(fs *flag.FlagSet) (names []string) {
	fs.VisitAll(func(f *flag.Flag) { names = append(names, f.Name) })
	return names
}

func dashed(names []string) []string {
	for i := range names {
		names[i] = "--" + names[i]
	}
	return names
}

// setFlag sets a flag that may be given several times from a list with commas.
func setFlag(fs *flag.FlagSet, name, value string) error {
	if !isList(fs.Lookup(name)) {
		if err := fs.Set(name, value); err != nil {
			return fmt.Errorf("%q does not do (%w); see \"peerserver %s --help\"", value, err, fs.Name())
		}
		return nil
	}
	for v := range strings.SplitSeq(value, ",") {
		if v = strings.TrimSpace(v); v != "" {
			if err := fs.Set(name, v); err != nil {
				return err
			}
		}
	}
	return nil
}

// readConfig sets the flags that are not given yet.
func readConfig(fs *flag.FlagSet, r io.Reader, file string, given map[string]bool) error {
	lines := bufio.NewScanner(r)
	set := make(map[string]int) // the line
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(strings.TrimPrefix(lines.Text(), "\ufeff"))
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		f := fs.Lookup(name)
		switch {
		case !ok:
			return fmt.Errorf("%s:%d: %q is not of the form name = value", file, n, line)
		case name == "config":
			return fmt.Errorf("%s:%d: a file cannot name another; give it with --config", file, n)
		case f == nil:
			return fmt.Errorf("%s:%d: there is no setting %q%s; \"peerserver %s --help\" lists them", file, n, name, didYouMean(name, flagNames(fs)), fs.Name())
		case set[name] > 0 && !isList(f):
			return fmt.Errorf("%s:%d: %s is already set in line %d", file, n, name, set[name])
		}
		set[name] = n
		if given[name] {
			continue
		}
		if err := setFlag(fs, name, unquote(value)); err != nil {
			return fmt.Errorf("%s:%d: %s: %w", file, n, name, err)
		}
	}
	return lines.Err()
}

func isList(f *flag.Flag) bool {
	_, ok := f.Value.(*stringList)
	return ok
}

// unquote takes one pair of quotes off, which nobody needs and some will write.
func unquote(v string) string {
	if len(v) >= 2 && v[0] == '"' && v[len(v)-1] == '"' {
		return v[1 : len(v)-1]
	}
	return v
}

// warnOfEnvironment names variables that look like misspelt settings. They are
// no errors: an environment is shared, and Kubernetes sets PEERSERVER_PORT and
// others by itself where a service has the name "peerserver".
func warnOfEnvironment(w io.Writer, environ []string) {
	var known []string
	for _, c := range commands() {
		fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
		c.set(fs)
		for _, name := range append(flagNames(fs), "config") {
			known = append(known, envName(name))
		}
	}
	for _, e := range environ {
		name, _, _ := strings.Cut(e, "=")
		if !strings.HasPrefix(name, envPrefix) || slices.Contains(known, name) {
			continue
		}
		if near := nearest(name, known, 2); near != "" {
			fmt.Fprintf(w, "peerserver: %s in the environment is not a setting; did you mean %s?\n", name, near)
		}
	}
}

// didYouMean is the end of an error about a name that does not exist.
func didYouMean(name string, known []string) string {
	if near := nearest(name, known, max(2, len(name)/3)); near != "" {
		return fmt.Sprintf(" (did you mean %q?)", near)
	}
	return ""
}

// nearest is the known name that differs by the fewest letters, if by at most
// so many.
func nearest(name string, known []string, most int) (near string) {
	for _, k := range known {
		if d := distance(name, k); d <= most {
			near, most = k, d-1
		}
	}
	return near
}

// distance is how many letters are to be added, left out or replaced.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// stringList is a flag that may be given several times.
type stringList []string

func (l *stringList) String() string { return strings.Join(*l, ",") }

func (l *stringList) Set(v string) error {
	*l = append(*l, v)
	return nil
}

// logFlag declares --log.
func logFlag(fs *flag.FlagSet) *slog.LevelVar {
	level := new(slog.LevelVar)
	fs.TextVar(level, "log", level, "`level` of what is logged: debug, info, warn or error")
	return level
}

func newLog(w io.Writer, level *slog.LevelVar) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}

func printJSON(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}
