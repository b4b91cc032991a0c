package main

import (
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"
)

const operators = "../../docs/operators.md"

var (
	docHeading = regexp.MustCompile("^### `peerserver ([a-z]+)`")
	docFlag    = regexp.MustCompile("^\\| `--([a-z-]+)`")
)

// row is a flag as the document lists it.
func row(f *flag.Flag) string {
	kind, text := flag.UnquoteUsage(f)
	if kind != "" {
		kind = " " + kind
	}
	byDefault := defaultOf(f)
	if byDefault != "" {
		byDefault = "`" + byDefault + "`"
	}
	return "| `--" + f.Name + "`" + kind + " | " + byDefault + " | " + strings.ReplaceAll(text, "|", "\\|") + " |"
}

// The operators' page lists exactly the flags there are, with what --help says
// of them.
func TestDocsListTheFlags(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	t.Setenv("XDG_DATA_HOME", "")
	text, err := os.ReadFile(operators)
	if err != nil {
		t.Fatal(err)
	}
	documented := make(map[string]map[string]string) // rows by flag, by command
	var current map[string]string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if m := docHeading.FindStringSubmatch(line); m != nil {
			current = make(map[string]string)
			documented[m[1]] = current
		} else if strings.HasPrefix(line, "#") {
			current = nil
		}
		if m := docFlag.FindStringSubmatch(line); m != nil && current != nil {
			if current[m[1]] != "" {
				t.Errorf("%s: --%s is there twice", operators, m[1])
			}
			current[m[1]] = line
		}
	}
	for _, c := range commands() {
		rows, ok := documented[c.name]
		if !ok {
			t.Errorf("%s has no heading ### `peerserver %s`", operators, c.name)
		}
		delete(documented, c.name)
		flags(c).VisitAll(func(f *flag.Flag) {
			if want := row(f); rows[f.Name] != want {
				t.Errorf("%s, peerserver %s: has\n%s\nwant\n%s", operators, c.name, rows[f.Name], want)
			}
			delete(rows, f.Name)
		})
		for name := range rows {
			t.Errorf("%s: peerserver %s has no flag --%s", operators, c.name, name)
		}
	}
	for name := range documented {
		t.Errorf("%s: there is no command %q", operators, name)
	}
}
