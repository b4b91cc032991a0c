//go:build linux

package natlab_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/peerservers/peerserver/testnet/natlab"
)

// victim is set, in the environment, for tests that are to end badly.
const victim = "NATLAB_VICTIM"

// busy makes a lab with much on it, among that a program that has left its
// parent.
func busy(t *testing.T) {
	lab := natlab.Start(t, natlab.Config{Delay: time.Millisecond})
	server := lab.Server("server")
	server.StartSelf(t, "stun", server.Addr().String(), server.Alias().String())
	home := lab.Home("home", natlab.Double)
	home.StartSelf(t, "watch", server.Addr().String())
	home.Start(t, "sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 & echo started; sleep 1000").Await(patience, "start", func(string) bool { return true })
	home.Wrapper(t, "/bin/true")
	if err := os.WriteFile(filepath.Join(t.TempDir(), "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// After a lab there is of it nothing left in the process that had it.
func TestEnd(t *testing.T) {
	before := snapshot(t)
	if !t.Run("busy", busy) {
		t.FailNow()
	}
	sameAs(t, before, "")
}

// TestVictim ends as it is told to.
func TestVictim(t *testing.T) {
	how := os.Getenv(victim)
	if how == "" {
		return // TestBadEnd runs it
	}
	busy(t)
	fmt.Println("victim is ready")
	switch how {
	case "fails":
		t.Fatal("as it was told to")
	case "panics":
		panic("as it was told to")
	case "exits":
		os.Exit(3)
	}
	select {}
}

// However a test ends, nothing of its lab is left.
func TestBadEnd(t *testing.T) {
	if os.Getenv(victim) != "" {
		return
	}
	natlab.Start(t, natlab.Config{}) // or is skipped
	for how, signal := range map[string]syscall.Signal{
		"fails": 0, "panics": 0, "exits": 0,
		"interrupted": syscall.SIGINT, "terminated": syscall.SIGTERM, "killed": syscall.SIGKILL,
	} {
		t.Run(how, func(t *testing.T) {
			before := snapshot(t)
			endVictim(t, how, signal)
			sameAs(t, before, victim+"="+how)
		})
	}
}

// endVictim runs TestVictim as from a shell, and has it end.
func endVictim(t *testing.T, how string, signal syscall.Signal) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestVictim$", "-test.v", "-test.timeout=5m")
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "NATLAB_") }), victim+"="+how)
	var log, said bytes.Buffer
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := false
	for lines := bufio.NewScanner(out); lines.Scan(); {
		said.Write(append(lines.Bytes(), '\n'))
		if lines.Text() != "victim is ready" {
			continue
		}
		if ready = true; signal != 0 {
			if err := cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || !ready {
		t.Fatalf("it did not come to a bad end: %v\n%s%s", err, said.String(), log.String())
	}
}

// state is what a lab could leave behind.
type state struct{ Devices, Mounts, Files []string }

func snapshot(t *testing.T) (s state) {
	t.Helper()
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range all {
		s.Devices = append(s.Devices, i.Name)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	s.Mounts = strings.Split(string(mounts), "\n")
	for _, pattern := range []string{os.TempDir() + "/*", "/run/natlab/*", "/run/netns/*"} {
		found, _ := filepath.Glob(pattern)
		s.Files = append(s.Files, found...)
	}
	return s
}

// sameAs waits until there is no more than before, and no process but this one
// and its first, or, with a mark, none with that in its environment.
func sameAs(t *testing.T, before state, mark string) {
	t.Helper()
	var more []string
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		now := snapshot(t)
		more = processes(mark)
		for _, two := range [][2][]string{{now.Devices, before.Devices}, {now.Mounts, before.Mounts}, {now.Files, before.Files}} {
			for _, v := range two[0] {
				if !slices.Contains(two[1], v) {
					more = append(more, v)
				}
			}
		}
		if len(more) == 0 {
			return
		}
	}
	t.Fatalf("there is left:\n%s", strings.Join(more, "\n"))
}

func processes(mark string) (left []string) {
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, path := range all {
		if path == "/proc/1" || path == fmt.Sprintf("/proc/%d", os.Getpid()) {
			continue
		}
		environ, err := os.ReadFile(path + "/environ")
		if mark != "" && !bytes.Contains(environ, []byte(mark)) {
			continue
		}
		if line, _ := os.ReadFile(path + "/cmdline"); err == nil {
			left = append(left, path+" "+string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
		}
	}
	return left
}
