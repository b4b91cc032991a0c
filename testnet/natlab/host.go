//go:build linux

package natlab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// device is the one that a host has.
const device = "eth0"

// Host is a machine with one cable. Programs on it see its network and no other;
// files are those of the test.
type Host struct {
	lab   *Lab
	name  string
	ns    namespace
	cable *Cable

	mu      sync.Mutex
	network *Network
	place   place
}

// Addr is the address that the machine has now.
func (h *Host) Addr() netip.Addr {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.place.prefix.Addr()
}

// Network is where the machine is now.
func (h *Host) Network() *Network {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.network
}

// Cable is the machine's own, from it to its network.
func (h *Host) Cable() *Cable { return h.cable }

// Move plugs the machine's cable into another network, where it gets an address,
// as when a laptop comes to a café. The old address is gone at once; programs go
// on.
func (h *Host) Move(to *Network) {
	h.lab.t.Helper()
	at := to.lease(others)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lab.must(h.move(h.lab.t.Context(), to, at))
	h.network, h.place = to, at
}

// Alias gives a machine of the internet one more address, and returns it.
func (h *Host) Alias() netip.Addr {
	h.lab.t.Helper()
	at := h.Network().lease(servers)
	h.lab.must(h.ns.ip(h.lab.t.Context(), "addr add "+at.prefix.String()+" dev "+device))
	return at.prefix.Addr()
}

// Command is a program on the machine that has yet to be started.
func (h *Host) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", string(h.ns), name}, args...)...)
}

// Start starts a program on the machine. It ends with the test t.
func (h *Host) Start(t testing.TB, name string, args ...string) *Process {
	t.Helper()
	return start(t, h.name+": "+filepath.Base(name), h.Command(context.Background(), name, args...))
}

// StartSelf starts one of the Programs that Main was given.
func (h *Host) StartSelf(t testing.TB, program string, args ...string) *Process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := h.Command(context.Background(), self, args...)
	cmd.Env = append(os.Environ(), envProgram+"="+program)
	return start(t, h.name+": "+program, cmd)
}

// Wrapper is a file that runs a program on the machine, with what arguments it
// gets: for tools that start a browser by its path. It can be run by what is
// started within [Main], on a Host or not, and is gone with the lab.
func (h *Host) Wrapper(t testing.TB, program string) string {
	t.Helper()
	script := fmt.Sprintf("#!/bin/sh\nexec ip netns exec '%s' '%s' \"$@\"\n", h.ns, program)
	f, err := os.CreateTemp(h.lab.folder(), filepath.Base(program)+"-*")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(script); err != nil {
		t.Fatal(err)
	}
	if err := f.Chmod(0o755); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}
