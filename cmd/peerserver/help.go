package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// lineWidth is that of help texts.
const lineWidth = 80

// help prints what a command does, an example, and its flags.
func (c *command) help(w io.Writer, fs *flag.FlagSet) {
	args := ""
	if c.args != "" {
		args = " " + c.args
	}
	fmt.Fprintf(w, "Usage: peerserver %s [FLAGS]%s\n\n%s\n\nExamples:\n", c.name, args, wrap(c.about, "", lineWidth))
	for _, e := range c.examples {
		fmt.Fprintln(w, "  "+e)
	}
	fmt.Fprintln(w, "\nFlags:")
	printFlags(w, fs, func(name string) bool { return !slices.Contains(c.tests, name) })
	if len(c.tests) > 0 {
		fmt.Fprintln(w, "\nFlags for tests and for programs that start nodes:")
		printFlags(w, fs, func(name string) bool { return slices.Contains(c.tests, name) })
	}
}

// printFlags lists flags as they are written here, with two dashes.
func printFlags(w io.Writer, fs *flag.FlagSet, which func(name string) bool) {
	fs.VisitAll(func(f *flag.Flag) {
		if !which(f.Name) {
			return
		}
		kind, text := flag.UnquoteUsage(f)
		head := "--" + f.Name
		if kind != "" {
			head += " " + kind
		}
		if d := defaultOf(f); d != "" {
			text += " (default " + d + ")"
		}
		fmt.Fprintf(w, "  %s\n%s\n", head, wrap(text, "        ", lineWidth))
	})
}

// defaultOf is a flag's default as it is shown, empty where it says nothing.
func defaultOf(f *flag.Flag) string {
	switch f.DefValue {
	case "false", "0s", "0":
		return ""
	}
	if f.Name == "log" {
		return strings.ToLower(f.DefValue)
	}
	if home, err := os.UserHomeDir(); err == nil {
		if below, ok := strings.CutPrefix(f.DefValue, home+string(os.PathSeparator)); ok {
			return filepath.Join("~", below)
		}
	}
	return f.DefValue
}

func wrap(text, indent string, width int) string {
	var b strings.Builder
	line := indent
	for word := range strings.FieldsSeq(text) {
		if len(line)+len(word)+1 > width && line != indent {
			b.WriteString(line + "\n")
			line = indent
		}
		if line != indent {
			line += " "
		}
		line += word
	}
	b.WriteString(line)
	return b.String()
}
