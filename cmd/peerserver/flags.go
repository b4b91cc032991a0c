package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
)

// parseFlags sets flags from the command line, else from the environment, else
// from the file that --config names.
func parseFlags(fs *flag.FlagSet, args []string, env func(string) (string, bool)) error {
	config := fs.String("config", "", "file of lines flag = value; # starts a comment")
	if err := fs.Parse(args); err != nil {
		if err != flag.ErrHelp {
			err = fmt.Errorf("%w; see --help", err)
		}
		return err
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("%q is not a flag; see --help", fs.Arg(0))
	}
	given := make(map[string]bool)
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	var bad error
	fs.VisitAll(func(f *flag.Flag) {
		name := "PEERSERVER_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
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
	return readConfig(fs, *config, given)
}

// setFlag sets a flag that may be given several times from a list with commas.
func setFlag(fs *flag.FlagSet, name, value string) error {
	if _, ok := fs.Lookup(name).Value.(*stringList); ok {
		for v := range strings.SplitSeq(value, ",") {
			if v = strings.TrimSpace(v); v != "" {
				if err := fs.Set(name, v); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return fs.Set(name, value)
}

func readConfig(fs *flag.FlagSet, file string, given map[string]bool) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		switch {
		case !ok:
			return fmt.Errorf("%s:%d: not of the form flag = value", file, n)
		case name == "config" || fs.Lookup(name) == nil:
			return fmt.Errorf("%s:%d: there is no flag %q", file, n, name)
		case given[name]:
			continue
		}
		if err := setFlag(fs, name, strings.Trim(value, `"`)); err != nil {
			return fmt.Errorf("%s:%d: %s: %w", file, n, name, err)
		}
	}
	return lines.Err()
}

// printFlags lists flags as they are written here, with two dashes.
func printFlags(w io.Writer, fs *flag.FlagSet) {
	fs.VisitAll(func(f *flag.Flag) {
		kind, text := flag.UnquoteUsage(f)
		name := "--" + f.Name
		if kind != "" {
			name += " " + kind
		}
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0s" {
			text += " (default " + f.DefValue + ")"
		}
		fmt.Fprintf(w, "  %-24s  %s\n", name, text)
	})
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
