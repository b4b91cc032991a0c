package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"strings"
	"testing"
)

// call runs a command line in this process.
func call(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), args, streams{strings.NewReader(""), &o, &e})
	return code, o.String(), e.String()
}

func TestHelp(t *testing.T) {
	code, out, errs := call(t, "help")
	if code != 0 || errs != "" {
		t.Errorf("help: %d %q", code, errs)
	}
	for _, c := range commands() {
		if !strings.Contains(out, "\n  "+c.name+" ") || !strings.Contains(out, c.examples[0]) {
			t.Errorf("help has not %s with its example", c.name)
		}
		for _, args := range [][]string{{c.name, "--help"}, {c.name, "-h"}, {"help", c.name}} {
			code, out, errs := call(t, args...)
			if code != 0 || errs != "" || !strings.HasPrefix(out, "Usage: peerserver "+c.name) || !strings.Contains(out, "\nExamples:\n  "+"peerserver "+c.name) && !strings.Contains(out, c.examples[0]) {
				t.Errorf("%v: %d %q %q", args, code, out, errs)
			}
			flags(c).VisitAll(func(f *flag.Flag) {
				if strings.Count(out, "\n  --"+f.Name+" ")+strings.Count(out, "\n  --"+f.Name+"\n") != 1 {
					t.Errorf("%v: --%s is not listed once", args, f.Name)
				}
			})
			for line := range strings.Lines(out) {
				if len(line) > lineWidth+1 && !strings.HasPrefix(line, "  peerserver") {
					t.Errorf("%v: a long line: %q", args, line)
				}
			}
		}
	}
	if code, out, errs := call(t); code != 2 || out != "" || !strings.Contains(errs, "Usage") {
		t.Errorf("without a command: %d %q %q", code, out, errs)
	}
}

// flags are those of a command, as they are parsed.
func flags(c command) *flag.FlagSet {
	fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
	c.set(fs)
	_ = parseFlags(fs, nil, true, func(string) (string, bool) { return "", false }) // adds --config
	return fs
}

func TestMistakes(t *testing.T) {
	for _, c := range []struct {
		args string
		code int
		says []string
	}{
		{"nod", 2, []string{`did you mean "node"?`, "peerserver help"}},
		{"help tesnet", 2, []string{`did you mean "testnet"?`}},
		{"frobnicate", 2, []string{"no command", "peerserver help"}},
		{"node --lisen :1", 2, []string{"no flag --lisen", `did you mean "--listen"?`, "peerserver node --help"}},
		{"node extra", 2, []string{`"extra" is not a flag`}},
		{"node --seed many", 2, []string{"many", "seed", "--help"}},
		{"node --config /no/such/file", 2, []string{"--config", "/no/such/file"}},
		{"node --trusted-proxy nobody", 1, []string{"nobody", "10.0.0.0/8"}},
		{"node --dht=false --data= --admin= --listen 999999", 1, []string{"999999", "--listen", "host:port"}},
		{"node --dht=false --data= --admin= --listen 127.0.0.1:0 --listen-fd 999", 1, []string{"--listen-fd 999"}},
		{"node --data= --bootstrap x", 1, []string{"bootstrap", "host:port"}},
		{"testnet --nodes 0", 1, []string{"--nodes 0", "1 to 1000"}},
		{"version --jsno", 2, []string{`did you mean "--json"?`}},
	} {
		code, out, errs := call(t, strings.Fields(c.args)...)
		if code != c.code || out != "" {
			t.Errorf("%s: %d %q, want %d", c.args, code, out, c.code)
		}
		if strings.Count(errs, "\n") != 1 {
			t.Errorf("%s: not one line: %q", c.args, errs)
		}
		for _, s := range c.says {
			if !strings.Contains(errs, s) {
				t.Errorf("%s: %q does not say %q", c.args, errs, s)
			}
		}
	}
}

func TestVersion(t *testing.T) {
	_, out, _ := call(t, "version", "--json")
	var v struct {
		Version, Go string
		Protocol    int
	}
	if err := json.Unmarshal([]byte(out), &v); err != nil || v.Version == "" || !strings.HasPrefix(v.Go, "go1") || v.Protocol != 1 || strings.Count(out, "\n") != 1 {
		t.Errorf("%v in %q", err, out)
	}
	if _, text, _ := call(t, "version"); !strings.HasPrefix(text, "peerserver "+v.Version+",") {
		t.Errorf("for people it is %q, for programs %q", text, v.Version)
	}
}
