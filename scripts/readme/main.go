// Readme does what the README, docs/peers.md, the pages of doors and the README of the SDK show: it runs the shell
// commands in a fresh clone, bundles the JavaScript as a page would, and compiles the Go.
//
//	go run ./scripts/readme
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	runFor  = 10 * time.Minute // one command, builds with an empty cache included
	stopFor = 30 * time.Second // from SIGINT to the end of a command
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	doors, _ := filepath.Glob("docs/doors/*.md") // the pattern is a good one
	for _, document := range append([]string{"README.md", "docs/peers.md", "peer/browser/README.md"}, doors...) {
		if err := run(ctx, document); err != nil {
			fmt.Fprintln(os.Stderr, "readme:", err)
			stop()
			os.Exit(1)
		}
	}
}

func run(ctx context.Context, document string) error {
	text, err := os.ReadFile(document)
	if err != nil {
		return err
	}
	snippets, err := parse(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", document, err)
	}
	scratch, err := os.MkdirTemp("", "readme-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	clone := filepath.Join(scratch, "clone")
	if out, err := exec.CommandContext(ctx, "git", "clone", "--quiet", ".", clone).CombinedOutput(); err != nil {
		return fmt.Errorf("git clone: %w: %s", err, out)
	}
	var failed error
	for _, s := range snippets {
		done, err := try(ctx, s, clone)
		switch {
		case err != nil:
			fmt.Printf("FAIL  %s:%d\n", document, s.line)
			failed = errors.Join(failed, fmt.Errorf("%s:%d: %w", document, s.line, err))
		case done != "":
			fmt.Printf("ok    %s:%d %s\n", document, s.line, done)
		}
	}
	return failed
}

// try says what was done with a snippet, nothing when it is of no kind that can be tried.
func try(ctx context.Context, s snippet, clone string) (done string, err error) {
	ctx, cancel := context.WithTimeout(ctx, runFor)
	defer cancel()
	switch {
	case s.run && s.until != nil:
		return "ran until it was ready, and ended when told to", runUntil(ctx, s.text, clone, s.until)
	case s.run:
		return "ran", runThrough(ctx, s.text, clone)
	case s.lang == "js":
		return "bundles", bundle(ctx, s.text)
	case s.lang == "go":
		return "compiles", compile(ctx, s.text, clone)
	}
	return "", nil
}

// process is shell commands in a process group of their own, so that all they started can be stopped.
type process struct {
	cmd    *exec.Cmd
	out    output
	exited chan struct{}
	err    error // readable after exited
}

func start(text, dir string) (*process, error) {
	p := &process{exited: make(chan struct{})}
	p.cmd = exec.Command("bash", "-euo", "pipefail", "-c", text) //nolint:noctx // ended by its group, see stop and kill
	p.cmd.Dir = dir
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

// stop does what Ctrl-C does, and complains of what does not end.
func (p *process) stop() error {
	if err := syscall.Kill(-p.cmd.Process.Pid, syscall.SIGINT); err != nil {
		return err
	}
	select {
	case <-p.exited: // an interrupted shell has no exit code worth reading
		return nil
	case <-time.After(stopFor):
		return errors.Join(fmt.Errorf("still runs %v after an interrupt", stopFor), p.kill())
	}
}

func (p *process) kill() error {
	err := syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.exited
	return err
}

func runThrough(ctx context.Context, text, dir string) error {
	p, err := start(text, dir)
	if err != nil {
		return err
	}
	select {
	case <-p.exited:
		if p.err != nil {
			return fmt.Errorf("%w:\n%s", p.err, &p.out)
		}
		return nil
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("%w before it ended:\n%s", ctx.Err(), &p.out), p.kill())
	}
}

func runUntil(ctx context.Context, text, dir string, until *regexp.Regexp) error {
	p, err := start(text, dir)
	if err != nil {
		return err
	}
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	for {
		select {
		case <-p.exited:
			return errors.Join(fmt.Errorf("ended before it printed %q:\n%s", until, &p.out), p.err)
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("%w before it printed %q:\n%s", ctx.Err(), until, &p.out), p.kill())
		case <-poll.C:
			if until.MatchString(p.out.String()) {
				return p.stop()
			}
		}
	}
}

// bundle asks esbuild, as installed for the browser tests, to make a page's script of it.
func bundle(ctx context.Context, text string) error {
	cmd := exec.CommandContext(ctx, "node_modules/.bin/esbuild", "--bundle", "--format=esm", "--platform=browser", "--log-level=warning")
	cmd.Dir = filepath.Join("testnet", "e2e")
	cmd.Stdin = strings.NewReader(text)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("esbuild: %w: %s", err, &complaints)
	}
	return nil
}

// compile builds a whole program in the clone: one that imports a package of ours within its module, others within the
// one that has the torrent client.
func compile(ctx context.Context, text, clone string) error {
	module := filepath.Join(clone, "testnet", "torrent")
	if strings.Contains(text, `"github.com/peerservers/peerserver/`) {
		module = clone
	}
	dir, err := os.MkdirTemp(module, "readme")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(text), 0o600); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "vet", "./"+filepath.Base(dir))
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // with cgo it needs a C++ compiler
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go vet: %w: %s", err, out)
	}
	return nil
}

// output is written by a command and read while it runs.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

const outputMax = 1 << 20

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.text.Len() < outputMax {
		o.text.Write(p)
	}
	return len(p), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}
