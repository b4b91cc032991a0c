//go:build linux

// Package lan_test runs programs on a LAN of their own: network namespaces on
// one bridge, without a default route.
package lan_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	// What the program under test is made of: go test forgets a pass when it changes.
	_ "github.com/peerservers/peerserver/node"
	_ "github.com/peerservers/peerserver/peer"
)

const (
	inside = "PEERSERVER_TEST_LAN" // names the program under test, in the namespaces
	// patience is far more than anything here takes.
	patience = time.Minute
)

// TestLAN runs the scenes in namespaces that end with it, however it ends.
func TestLAN(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: real processes")
	}
	args := []string{"--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"}
	if os.Getuid() != 0 {
		args = append([]string{"--user", "--map-root-user"}, args...)
	}
	for _, program := range []string{"ip", "unshare", "mount"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip("the scenes on a LAN need " + program)
		}
	}
	if out, err := exec.CommandContext(t.Context(), "unshare", append(args, "sh", "-c", setUp)...).CombinedOutput(); err != nil {
		t.Skipf("the scenes on a LAN need root, or the right to make namespaces and bridges: %s", out)
	}
	program := filepath.Join(t.TempDir(), "peerserver")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./cmd/peerserver")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args = append(args, "sh", "-c", setUp+` && exec "$@"`, "sh", self, "-test.run=^TestScenes$", "-test.v", "-test.count=1")
	cmd := exec.CommandContext(t.Context(), "unshare", args...)
	cmd.Env = append(os.Environ(), inside+"="+program)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !bytes.Contains(out, []byte("--- PASS: TestScenes")) {
		t.Fatalf("the scenes did not run\n%s", out)
	}
	t.Logf("%s", out)
}

// setUp makes three machines, a, b and c, at 10.77.0.1 to 3 and fd77::1 to 3. c has an address of
// another subnet besides, which the others reach.
const setUp = `
mount -t tmpfs none /run && mkdir /run/netns &&
ip link set lo up && ip link add br0 type bridge && ip link set br0 up promisc on &&
for i in 1 2 3; do
	ns=$(echo $i | tr 123 abc)
	ip netns add $ns && ip link add v$i type veth peer name eth0 netns $ns && ip link set v$i master br0 up &&
	ip -n $ns link set lo up && ip -n $ns addr add 10.77.0.$i/24 dev eth0 && ip -n $ns addr add fd77::$i/64 dev eth0 nodad && ip -n $ns link set eth0 up || exit 1
done &&
ip -n a route add 10.88.0.0/24 dev eth0 && ip -n b route add 10.88.0.0/24 dev eth0 && ip -n c addr add 10.88.0.3/24 dev eth0`

// in runs f on a thread of a machine: the sockets that it opens are there.
func in(t *testing.T, machine string, f func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		fd, err := unix.Open("/run/netns/"+machine, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(fd, unix.CLONE_NEWNET)
			unix.Close(fd)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// process is the program on a machine. What it prints is JSON, a line for each
// event.
type process struct {
	t     *testing.T
	name  string
	cmd   *exec.Cmd
	input interface{ Close() error }
	say   func(string)
	done  chan struct{}

	mu     sync.Mutex
	events []event
	log    bytes.Buffer
}

type event struct {
	Event   string `json:"event"`
	ID      string `json:"id"`
	Session string `json:"session"`
	Text    string `json:"text"`
	URL     string `json:"url"`
}

func run(t *testing.T, machine string, args ...string) *process {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{t: t, name: machine + ": " + strings.Join(args, " "), done: make(chan struct{})}
	p.cmd = exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", machine, os.Getenv(inside)}, args...)...)
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.input, p.say = stdin, func(s string) { _, _ = fmt.Fprintln(stdin, s) }
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stderr = &lockedWriter{p}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			var e event
			if json.Unmarshal(lines.Bytes(), &e) == nil {
				p.mu.Lock()
				p.events = append(p.events, e)
				p.mu.Unlock()
			}
		}
		_ = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		if t.Failed() {
			p.mu.Lock()
			t.Logf("%s\n%+v\n%s", p.name, p.events, p.log.String())
			p.mu.Unlock()
		}
		cancel()
		<-p.done
	})
	return p
}

type lockedWriter struct{ p *process }

func (w *lockedWriter) Write(b []byte) (int, error) {
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	return w.p.log.Write(b)
}

// await waits for an event.
func (p *process) await(what string, ok func(event) bool) event {
	p.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		p.mu.Lock()
		for _, e := range p.events {
			if ok(e) {
				p.mu.Unlock()
				return e
			}
		}
		p.mu.Unlock()
		select {
		case <-p.done:
			p.t.Fatalf("%s: it has ended, and there was no %s", p.name, what)
		default:
		}
	}
	p.t.Fatalf("%s: no %s", p.name, what)
	return event{}
}

func (p *process) joined() event {
	p.t.Helper()
	return p.await("joined", func(e event) bool { return e.Event == "joined" })
}

// count is how many events there were of a kind.
func (p *process) count(kind string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.events {
		if e.Event == kind {
			n++
		}
	}
	return n
}

// capture records all frames on the bridge until the test ends.
type capture struct {
	mu     sync.Mutex
	frames [][]byte
}

func captureAll(t *testing.T) *capture {
	t.Helper()
	const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8 // in network order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all)
	if err != nil {
		t.Fatal(err)
	}
	c, done, stop := new(capture), make(chan struct{}), make(chan struct{})
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(done)
		buf := make([]byte, 1<<16)
		for {
			n, from, err := unix.Recvfrom(fd, buf, 0)
			if link, ok := from.(*unix.SockaddrLinklayer); err == nil && ok && link.Pkttype != unix.PACKET_OUTGOING {
				c.mu.Lock()
				c.frames = append(c.frames, bytes.Clone(buf[:n]))
				c.mu.Unlock()
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	t.Cleanup(func() {
		close(stop)
		<-done
		unix.Close(fd)
	})
	return c
}

// having are the frames with some bytes in them.
func (c *capture) having(b []byte) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.frames {
		if bytes.Contains(f, b) {
			n++
		}
	}
	return n
}

func (c *capture) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.frames)
}
