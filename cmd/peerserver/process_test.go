//go:build unix

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for what must come: far more than it takes,
// so that a loaded machine fails no test.
const patience = time.Minute

// asProgram makes the test's binary be the program, so that tests can run real
// processes of it.
const asProgram = "BE_PEERSERVER"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// process is a running peerserver.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	in   io.Closer
	line chan string // of standard output
	done chan struct{}
	errs lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// start runs the program; a process that is left is killed with the test.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: exec.Command(program, args...), line: make(chan string, 1000), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), asProgram+"=1")
	p.cmd.Stderr = &p.errs
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			p.line <- lines.Text()
		}
		close(p.line)
		_ = p.cmd.Wait() // the test looks at ProcessState
		close(p.done)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // it has mostly ended
		<-p.done
	})
	return p
}

// next is the next line that the program prints.
func (p *process) next() string {
	p.t.Helper()
	select {
	case line, ok := <-p.line:
		if !ok {
			p.t.Fatalf("it ended: %s", p.errs.String())
		}
		return line
	case <-time.After(patience):
		p.t.Fatalf("it prints nothing: %s", p.errs.String())
	}
	return ""
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// ends waits until the program has ended, and returns what more it printed.
func (p *process) ends() (more []string) {
	p.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case line, ok := <-p.line:
			if ok {
				more = append(more, line)
				continue
			}
			select {
			case <-p.done:
				return more
			case <-deadline:
			}
		case <-deadline:
		}
		p.t.Fatal("it does not end")
	}
}

// node starts a node that knows none but its peers.
func startNode(t *testing.T, args ...string) (*process, description) {
	t.Helper()
	p := start(t, append([]string{"node", "--json", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data", "", "--dht=false", "--allow-private"}, args...)...)
	var d description
	if err := json.Unmarshal([]byte(p.next()), &d); err != nil {
		t.Fatal(err)
	}
	return p, d
}

// ask fetches JSON.
func ask(t *testing.T, url string, v any) int {
	t.Helper()
	answer, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if err := json.NewDecoder(answer.Body).Decode(v); err != nil {
		t.Fatalf("%s: %v", url, err)
	}
	return answer.StatusCode
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

func TestNodeKeepsItsKey(t *testing.T) {
	dir := t.TempDir()
	p, first := startNode(t, "--data", dir)
	var stats struct{ Node, Version string }
	ask(t, first.URL+"/stats.json", &stats)
	if stats.Node != first.ID || stats.Version != version() || first.PID != p.cmd.Process.Pid || first.WS != "ws"+strings.TrimPrefix(first.URL, "http") {
		t.Errorf("printed %+v, the node says %+v", first, stats)
	}
	var apps struct{ Total int }
	if status := ask(t, first.Admin+"/apps.json", &apps); status != http.StatusOK {
		t.Errorf("admin pages: %d", status)
	}
	second := start(t, "node", "--listen", "127.0.0.1:0", "--admin", "", "--dht=false", "--data", dir)
	second.ends()
	if code := second.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(second.errs.String(), "another node has it") {
		t.Errorf("a second node with the same folder: %d, %s", code, second.errs.String())
	}
	p.signal(syscall.SIGINT)
	if more := p.ends(); p.cmd.ProcessState.ExitCode() != 0 || len(more) != 0 {
		t.Errorf("ended with %v and %q", p.cmd.ProcessState, more)
	}
	if _, again := startNode(t, "--data", dir); again.ID != first.ID {
		t.Errorf("it is %s after a restart, and was %s", again.ID, first.ID)
	}
}

// For people a node says what is where, and what to do about what is missing.
func TestNodeForPeople(t *testing.T) {
	p := start(t, "node", "--listen", "127.0.0.1:0", "--admin", "", "--data", "", "--dht=false")
	for _, want := range []string{"peerserver ", "page     http://127.0.0.1:", "clients  ws://127.0.0.1:", "--url wss://", "admin    none", "data     none"} {
		if line := p.next(); !strings.Contains(line, want) {
			t.Errorf("%q does not say %q", line, want)
		}
	}
	p.signal(syscall.SIGTERM)
	p.ends()
}

func TestEndsWithStandardInput(t *testing.T) {
	p, _ := startNode(t, "--end-with-stdin")
	p.in.Close()
	p.ends()
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("ended with %d: %s", code, p.errs.String())
	}
}

func TestTestnet(t *testing.T) {
	for _, mode := range []string{"--processes=false", "--processes"} {
		p := start(t, "testnet", "--json", mode)
		var net struct{ Nodes []description }
		line := p.next()
		if err := json.Unmarshal([]byte(line), &net); err != nil || len(net.Nodes) != 3 {
			t.Fatalf("%s: %v in %q, want three nodes", mode, err, line)
		}
		seen := map[string]bool{}
		pids := map[int]bool{}
		for _, d := range net.Nodes {
			var stats struct{ Node string }
			if ask(t, d.Admin+"/stats.json", &stats); stats.Node != d.ID || seen[d.ID] || seen[d.Admin] || seen[d.URL] {
				t.Errorf("%s: %+v says it is %s", mode, d, stats.Node)
			}
			seen[d.ID], seen[d.Admin], seen[d.URL], pids[d.PID] = true, true, true, true
		}
		if mode == "--processes" && (len(pids) != 3 || pids[p.cmd.Process.Pid]) {
			t.Errorf("processes %v, want one for each node", pids)
		}
		if mode != "--processes" && (len(pids) != 1 || !pids[p.cmd.Process.Pid]) {
			t.Errorf("process %v, want %d", pids, p.cmd.Process.Pid)
		}
		p.signal(syscall.SIGTERM)
		if more := p.ends(); p.cmd.ProcessState.ExitCode() != 0 || len(more) != 0 {
			t.Errorf("%s: ended with %v and %q: %s", mode, p.cmd.ProcessState, more, p.errs.String())
		}
		for pid := range pids {
			if err := syscall.Kill(pid, 0); err == nil {
				t.Errorf("%s: process %d is left", mode, pid)
			}
		}
	}
}

// A settings file is for one command; the nodes that testnet starts do not
// hear of it.
func TestTestnetWithAFile(t *testing.T) {
	file := t.TempDir() + "/net.conf"
	if err := os.WriteFile(file, []byte("nodes = 2\nprocesses = true\njson = true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PEERSERVER_CONFIG", file)
	p := start(t, "testnet")
	if line := p.next(); strings.Count(line, `"id"`) != 2 {
		t.Errorf("%q has not two nodes", line)
	}
	p.signal(syscall.SIGTERM)
	p.ends()
}
