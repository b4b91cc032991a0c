//go:build linux

package natlab

import (
	"bufio"
	"bytes"
	"io"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	endWithin = 10 * time.Second // of SIGTERM
	maxLines  = 20_000           // of output that are kept, the newest
	maxLine   = 1 << 20
	maxLog    = 64 << 10 // of standard error, the newest
)

// Process is a program on a machine. Its output is lines.
type Process struct {
	t    testing.TB
	name string
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  io.ReadCloser
	done chan struct{} // closed when it has ended and all it wrote is read

	mu      sync.Mutex
	lines   []string
	dropped int           // lines that are no longer kept
	changed chan struct{} // closed, and another one made, with each line
	log     []byte
	err     error // how it ended
}

func start(t testing.TB, name string, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{t: t, name: name, cmd: cmd, done: make(chan struct{}), changed: make(chan struct{})}
	// What it starts is ended with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stderr = (*logWriter)(p)
	cmd.WaitDelay = endWithin
	var err error
	if p.in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if p.out, err = cmd.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go p.read()
	t.Cleanup(func() {
		p.Stop()
		if t.Failed() {
			t.Logf("%s (%v)\n%s\n%s", p.name, p.Err(), p.tail(40), p.Log())
		}
	})
	return p
}

func (p *Process) read() {
	defer close(p.done)
	lines := bufio.NewScanner(p.out)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		p.mu.Lock()
		if p.lines = append(p.lines, lines.Text()); len(p.lines) > maxLines {
			p.lines, p.dropped = slices.Clone(p.lines[maxLines/2:]), p.dropped+maxLines/2
		}
		close(p.changed)
		p.changed = make(chan struct{})
		p.mu.Unlock()
	}
	_, _ = io.Copy(io.Discard, p.out) // a line too long must not stop the program
	err := p.cmd.Wait()
	p.mu.Lock()
	p.err = err
	p.mu.Unlock()
}

// Say writes a line to the program's standard input.
func (p *Process) Say(line string) error {
	_, err := io.WriteString(p.in, line+"\n")
	return err
}

// Await waits for a line, a new one or one that has been, and fails the test when
// none comes in time or the program ends first.
func (p *Process) Await(within time.Duration, what string, ok func(line string) bool) string {
	p.t.Helper()
	timeout := time.NewTimer(within)
	defer timeout.Stop()
	for next, ended := 0, false; ; {
		p.mu.Lock()
		lines, first, changed := p.lines, p.dropped, p.changed
		p.mu.Unlock()
		for _, line := range lines[max(0, next-first):] {
			if ok(line) {
				return line
			}
		}
		next = first + len(lines)
		if ended {
			p.t.Fatalf("%s has ended (%v), and there was no %s", p.name, p.Err(), what)
		}
		select {
		case <-changed:
		case <-p.done:
			ended = true // one more look: there may be lines since
		case <-timeout.C:
			p.t.Fatalf("%s: no %s within %s", p.name, what, within)
		}
	}
}

// Wait waits for the end of the program and returns how it ended; it fails the
// test when that takes longer.
func (p *Process) Wait(within time.Duration) error {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(within):
		p.t.Fatalf("%s does not end within %s", p.name, within)
	}
	return p.Err()
}

// Stop asks the program to end, and insists when it does not.
func (p *Process) Stop() {
	p.signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(endWithin):
		p.Kill()
	}
}

// Kill ends the program at once, with all that it has started.
func (p *Process) Kill() {
	p.signal(syscall.SIGKILL)
	select {
	case <-p.done:
	case <-time.After(endWithin):
		p.out.Close() // what it has started lives in a group of its own, and holds its output; it ends with the lab
		<-p.done
	}
}

func (p *Process) signal(s syscall.Signal) {
	select {
	case <-p.done: // its number may be another's by now
	default:
		_ = syscall.Kill(-p.cmd.Process.Pid, s)
	}
}

// Err is how the program ended; nil too while it runs.
func (p *Process) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// Lines are what the program has written, as far as it is kept.
func (p *Process) Lines() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.lines)
}

// Log is the end of what it has written to standard error.
func (p *Process) Log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return string(p.log)
}

func (p *Process) tail(n int) []byte {
	lines := p.Lines()
	var b bytes.Buffer
	for _, line := range lines[max(0, len(lines)-n):] {
		b.WriteString(line[:min(len(line), 300)] + "\n")
	}
	return b.Bytes()
}

type logWriter Process

func (w *logWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.log = append(w.log, b...); len(w.log) > maxLog {
		w.log = slices.Clone(w.log[len(w.log)-maxLog/2:])
	}
	return len(b), nil
}
