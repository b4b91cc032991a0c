package main

import (
	"fmt"
	"regexp"
	"strings"
)

// snippet is one fenced block.
type snippet struct {
	line  int    // of the fence
	lang  string // sh, js, go, html, ...
	text  string
	until *regexp.Regexp // for a command that runs until it is stopped: what it prints when it is ready
	run   bool
}

var (
	marker = regexp.MustCompile(`^<!-- (run|run until|not run): ?(.*?) ?-->$|^<!-- (run) -->$`)
	fence  = regexp.MustCompile("^```(\\S*)$")
)

// parse finds the fenced blocks of a document. A block in sh has a marker on a
// line above it, so that none goes unrun by oversight:
//
//	<!-- run -->                 is run to its end
//	<!-- run until: REGEXP -->   is started, and stopped once it has printed that
//	<!-- not run: REASON -->
func parse(text string) (snippets []snippet, err error) {
	var block *snippet
	mark := ""
	for i, line := range strings.Split(text, "\n") {
		switch {
		case block != nil && line == "```":
			snippets = append(snippets, *block)
			block = nil
		case block != nil:
			block.text += line + "\n"
		case fence.MatchString(line):
			block = &snippet{line: i + 1, lang: fence.FindStringSubmatch(line)[1]}
			if err := block.marked(mark); err != nil {
				return nil, fmt.Errorf("line %d: %w", i+1, err)
			}
			mark = ""
		case marker.MatchString(line):
			mark = line
		case strings.TrimSpace(line) != "":
			mark = ""
		}
	}
	if block != nil {
		return nil, fmt.Errorf("line %d: the block is not closed", block.line)
	}
	return snippets, nil
}

func (s *snippet) marked(mark string) error {
	m := marker.FindStringSubmatch(mark)
	switch {
	case m == nil && s.lang == "sh":
		return fmt.Errorf("a block in sh needs one of <!-- run -->, <!-- run until: REGEXP --> and <!-- not run: REASON --> above it")
	case m == nil:
		return nil
	case s.lang != "sh":
		return fmt.Errorf("only blocks in sh are run, this one is in %q", s.lang)
	case m[3] == "run":
		s.run = true
	case m[1] == "run until":
		until, err := regexp.Compile(m[2])
		if err != nil {
			return err
		}
		s.run, s.until = true, until
	case m[1] != "not run" || m[2] == "":
		return fmt.Errorf("%s: says neither what to wait for nor why it is not run", mark)
	}
	return nil
}
