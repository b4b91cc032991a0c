//go:build linux

package natlab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Config says what a lab's internet is like. Its zero value is an internet
// without delay and loss.
type Config struct {
	Delay time.Duration // one way, between two machines of the internet
	Loss  float64       // share of what is sent from one to the other that is lost, 0 to 1
}

// Lab is an internet and what is on it.
type Lab struct {
	Internet *Network

	t      testing.TB
	config Config
	number int // tells the labs of one process apart

	mu         sync.Mutex
	namespaces []namespace
	cables     []*Cable
	homes      int // that have a LAN
}

// Start makes a lab with nothing on its internet yet. It ends with the test, and
// with it all that is on it. Without what a lab needs the test is skipped.
func Start(t testing.TB, config Config) *Lab {
	t.Helper()
	switch {
	case os.Getenv(envInside) != "":
	case os.Getenv(envLacks) != "":
		t.Skip("the NAT lab needs " + os.Getenv(envLacks))
	default:
		t.Fatal("natlab: TestMain has to call natlab.Main")
	}
	lab := &Lab{t: t, config: config}
	for lab.number = 1; ; lab.number++ {
		err := os.Mkdir(lab.folder(), 0o755)
		if err == nil {
			break
		}
		if !errors.Is(err, os.ErrExist) {
			t.Fatal(err)
		}
	}
	lab.Internet = &Network{lab: lab, name: "internet", sw: newSwitch()}
	t.Cleanup(lab.close)
	return lab
}

func (l *Lab) folder() string { return filepath.Join(run, "natlab", strconv.Itoa(l.number)) }

// Server is a machine on the internet with an address of its own.
func (l *Lab) Server(name string) *Host {
	l.t.Helper()
	return l.host(name, l.Internet, l.Internet.lease(servers))
}

// Home is a machine behind a NAT, the first one there. Of Public it is on the
// internet itself.
func (l *Lab) Home(name string, kind NAT) *Host {
	l.t.Helper()
	return l.Network(name, kind).Host(name)
}

// Network is what a home has behind its NAT, with nobody there yet. Of Public it
// is the internet.
func (l *Lab) Network(name string, kind NAT) *Network {
	l.t.Helper()
	switch kind {
	case Public:
		return l.Internet
	case Double:
		provider := l.lan(name+".provider", PortRestricted, l.Internet, netip.AddrFrom4([4]byte{100, 64, 0, 0}))
		return l.lan(name, PortRestricted, provider, netip.AddrFrom4([4]byte{10, 0, 0, 0}))
	}
	return l.lan(name, kind, l.Internet, netip.AddrFrom4([4]byte{10, 0, 0, 0}))
}

// namespace is a network namespace, by its name for ip.
type namespace string

// namespace makes one, which ends with the lab.
func (l *Lab) namespace(name string) namespace {
	l.t.Helper()
	n := namespace(fmt.Sprintf("%d.%s", l.number, name))
	l.must(command(l.t.Context(), "ip", "netns", "add", string(n)))
	l.mu.Lock()
	l.namespaces = append(l.namespaces, n)
	l.mu.Unlock()
	l.must(n.ip(l.t.Context(), "link set lo up"))
	return n
}

// ip runs lines of ip in the namespace.
func (n namespace) ip(ctx context.Context, lines ...string) error {
	return feed(ctx, strings.Join(lines, "\n")+"\n", "ip", "-n", string(n), "-batch", "-")
}

// exec runs a tool in the namespace.
func (n namespace) exec(ctx context.Context, input, name string, args ...string) error {
	return feed(ctx, input, "ip", append([]string{"netns", "exec", string(n), name}, args...)...)
}

// set sets what sysctl would.
func (n namespace) set(name, value string) error {
	return inNamespace(string(n), func() error { return os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0) })
}

// cable gives a namespace a device, and plugs it into a network.
func (l *Lab) cable(n namespace, device string, to *Network) *Cable {
	l.t.Helper()
	c, err := newCable(string(n), device)
	l.must(err)
	l.mu.Lock()
	l.cables = append(l.cables, c)
	l.mu.Unlock()
	c.join(to)
	return c
}

func (l *Lab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal("natlab: ", err)
	}
}

// close ends what still runs on the lab's machines, then takes them apart.
func (l *Lab) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, n := range l.namespaces {
		for _, pid := range n.processes() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	for _, c := range l.cables {
		c.close()
	}
	for _, n := range l.namespaces {
		if err := command(ctx, "ip", "netns", "del", string(n)); err != nil {
			l.t.Error("natlab: ", err)
		}
	}
	if err := os.RemoveAll(l.folder()); err != nil {
		l.t.Error("natlab: ", err)
	}
}

// processes are those that are in the namespace.
func (n namespace) processes() (pids []int) {
	want, err := os.Stat(filepath.Join(run, "netns", string(n)))
	if err != nil {
		return nil
	}
	all, _ := filepath.Glob("/proc/[0-9]*/ns/net")
	for _, path := range all {
		pid, err := strconv.Atoi(strings.Split(path, "/")[2])
		if at, statErr := os.Stat(path); err == nil && statErr == nil && os.SameFile(at, want) {
			pids = append(pids, pid)
		}
	}
	return pids
}
