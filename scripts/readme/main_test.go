package main

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	block := func(mark, lang string) string { return mark + "\n\n```" + lang + "\necho hi\n```\n" }
	for _, c := range []struct{ name, text, err string }{
		{"run", block("<!-- run -->", "sh"), ""},
		{"until", block("<!-- run until: ready .*8787 -->", "sh"), ""},
		{"not run", block("<!-- not run: it takes all day -->", "sh"), ""},
		{"other language", block("", "js"), ""},
		{"unmarked", block("", "sh"), "needs one of"},
		{"prose between", block("<!-- run -->\n\nSo:", "sh"), "needs one of"},
		{"no reason", block("<!-- not run: -->", "sh"), "says neither"},
		{"bad pattern", block("<!-- run until: ( -->", "sh"), "regexp"},
		{"js is not run", block("<!-- run -->", "js"), "only blocks in sh"},
		{"open", "```js\n", "not closed"},
	} {
		snippets, err := parse(c.text)
		if c.err == "" && (err != nil || len(snippets) != 1 || snippets[0].text != "echo hi\n") {
			t.Errorf("%s: got %+v, %v", c.name, snippets, err)
		}
		if c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: err = %v, want %q", c.name, err, c.err)
		}
	}
}

func TestRunThrough(t *testing.T) {
	dir := t.TempDir()
	if err := runThrough(t.Context(), "true\ntouch made\n", dir); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "made")); err != nil {
		t.Error("did not run in the folder:", err)
	}
	if err := runThrough(t.Context(), "false\ntrue\n", dir); err == nil {
		t.Error("a command in the middle failed and nobody noticed")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := runThrough(ctx, "sleep 60 & sleep 60\n", dir); err == nil || !strings.Contains(err.Error(), "before it ended") {
		t.Errorf("err = %v for a command that hangs", err)
	}
}

func TestRunUntil(t *testing.T) {
	dir := t.TempDir()
	ready := regexp.MustCompile(`ready on \d+`)
	serve := "echo $$ > pid; echo ready on 8787; sh -c 'echo $$ > child; exec sleep 300'; true\n"
	if err := runUntil(t.Context(), serve, dir, ready); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"pid", "child"} {
		if alive(t, filepath.Join(dir, name)) {
			t.Errorf("%s still runs", name)
		}
	}
	if err := runUntil(t.Context(), "echo never\n", dir, ready); err == nil || !strings.Contains(err.Error(), "before it printed") {
		t.Errorf("err = %v for a command that ends early", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := runUntil(ctx, "sleep 60\n", dir, ready); err == nil {
		t.Error("waits for ever")
	}
}

func alive(t *testing.T, file string) bool {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return syscall.Kill(pid, 0) == nil
}
