//go:build linux

// Package portmap_test has a node at home ask a real router, miniupnpd, for its
// ports, and then comes to them from outside.
package portmap_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/peerservers/peerserver/node/ice"
	"github.com/peerservers/peerserver/node/portmap"
	"github.com/peerservers/peerserver/testnet/natlab"

	// What the program under test is made of: go test forgets a pass when it changes.
	_ "github.com/peerservers/peerserver/cmd/peerserver/doctor"
	_ "github.com/peerservers/peerserver/node"
)

const (
	patience = 2 * time.Minute
	daemon   = "/usr/sbin/miniupnpd"
)

func TestMain(m *testing.M) {
	natlab.Main(m, natlab.Programs{"get": get, "stun": stun, "map": mapPorts})
}

// mapPorts keeps mappings by one protocol, and prints what they are.
func mapPorts(ctx context.Context, args []string) error {
	var m *portmap.Mapper
	m = portmap.New(portmap.Config{
		Only: args[0], Ports: []portmap.Port{{TCP: true, Number: 8787}, {Number: 3478}, {Number: 50000, Exact: true}},
		Changed: func() {
			s := m.State()
			fmt.Println(s.Protocol, s.Address, s.Mappings)
		},
	})
	return m.Serve(ctx)
}

// get asks for a URL until the answer has some text in it, or with "!" before it
// until there is none any more.
func get(ctx context.Context, args []string) error {
	url, want := args[0], args[1]
	text, absent := strings.CutPrefix(want, "!")
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	last := ""
	for ctx.Err() == nil {
		q, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		body := ""
		if answer, err := client.Do(q); err == nil {
			b, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
			answer.Body.Close()
			body = string(b)
		} else {
			body = "error: " + err.Error()
		}
		if strings.Contains(body, text) != absent {
			fmt.Println("got it")
			return nil
		}
		if body != last {
			fmt.Println("now:", strings.TrimSpace(body))
			last = body
		}
		time.Sleep(200 * time.Millisecond)
	}
	return ctx.Err()
}

// stun asks a STUN server until it answers.
func stun(ctx context.Context, args []string) error {
	to, err := netip.ParseAddrPort(args[0])
	if err != nil {
		return err
	}
	conn, err := new(net.ListenConfig).ListenPacket(ctx, "udp4", ":0")
	if err != nil {
		return err
	}
	defer conn.Close()
	for ctx.Err() == nil {
		if _, err := ice.Discover(ctx, conn, to); err == nil {
			fmt.Println("got it")
			return nil
		}
	}
	return errors.New("no answer")
}

func awaits(t *testing.T, p *natlab.Process) {
	t.Helper()
	p.Await(patience, "what was asked for", func(line string) bool { return line == "got it" })
}

func buildNode(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "peerserver")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", path, "github.com/peerservers/peerserver/cmd/peerserver")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return path
}

// home is a lab with two nodes on the internet and one at home.
type home struct {
	t       *testing.T
	lab     *natlab.Lab
	binary  string
	servers [2]*natlab.Host
	inside  *natlab.Host
	router  string // its namespace
	outside netip.Addr
}

func newHome(t *testing.T) *home {
	t.Helper()
	h := &home{t: t, lab: natlab.Start(t, natlab.Config{Delay: 10 * time.Millisecond})}
	if _, err := os.Stat(daemon); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is not installed: scripts/install.sh system", daemon)
		}
		t.Skipf("%s is not installed: scripts/install.sh system", daemon)
	}
	h.binary = buildNode(t)
	for i := range h.servers {
		h.servers[i] = h.lab.Server(fmt.Sprint("node", i))
	}
	for i, s := range h.servers {
		at := s.Addr().String() + ":8787"
		s.Start(t, h.binary, "node", "--listen", at, "--url", "ws://"+at, "--peer", "http://"+h.servers[1-i].Addr().String()+":8787",
			"--data=", "--admin=", "--dht=false", "--json").Await(patience, "start", func(string) bool { return true })
	}
	h.inside = h.lab.Home("home", natlab.PortRestricted)
	h.findRouter()
	return h
}

// findRouter looks which namespace the home's router is, and its address outside.
func (h *home) findRouter() {
	h.t.Helper()
	out, err := exec.CommandContext(h.t.Context(), "ip", "netns", "list").Output()
	if err != nil {
		h.t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		if name, _, _ := strings.Cut(strings.TrimSpace(line), " "); strings.HasSuffix(name, ".home.router") {
			h.router = name
		}
	}
	at := h.onRouter("ip", "-4", "-o", "addr", "show", "dev", "wan")
	for word := range strings.FieldsSeq(at) {
		if p, err := netip.ParsePrefix(word); err == nil {
			h.outside = p.Addr()
		}
	}
	if !h.outside.IsValid() {
		h.t.Fatalf("the router %q has no address outside: %s", h.router, at)
	}
}

func (h *home) onRouter(args ...string) string {
	h.t.Helper()
	out, err := exec.CommandContext(h.t.Context(), "ip", append([]string{"netns", "exec", h.router}, args...)...).CombinedOutput()
	if err != nil {
		h.t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return string(out)
}

// The chains that miniupnpd fills in. What is let in there the router's own rules
// forward, as they do with all that is translated.
const chains = `
table inet miniupnpd {
	chain forward {
		type filter hook forward priority 0; policy accept;
		jump upnp
	}
	chain prerouting {
		type nat hook prerouting priority -100; policy accept;
		jump upnp_in
	}
	chain postrouting {
		type nat hook postrouting priority 110; policy accept;
		jump upnp_out
	}
	chain upnp { }
	chain upnp_in { }
	chain upnp_out { }
}
`

// startDaemon has the router map ports, with more lines of configuration; it is a
// test's own, and ends with it. Its lines are its log.
func (h *home) startDaemon(upnp, natpmp string, more ...string) *natlab.Process {
	h.t.Helper()
	dir := h.t.TempDir()
	rules, config := filepath.Join(dir, "chains.nft"), filepath.Join(dir, "miniupnpd.conf")
	text := "ext_ifname=wan\nlistening_ip=lan\nsecure_mode=yes\nhttp_port=0\nnotify_interval=60\nuuid=00000000-0000-0000-0000-000000000001\n" +
		"upnp_table_name=miniupnpd\nupnp_nat_table_name=miniupnpd\nupnp_forward_chain=upnp\nupnp_nat_chain=upnp_in\nupnp_nat_postrouting_chain=upnp_out\n" +
		"enable_upnp=" + upnp + "\nenable_natpmp=" + natpmp + "\n" +
		strings.Join(more, "\n") + "\n"
	for path, s := range map[string]string{rules: chains, config: text} {
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			h.t.Fatal(err)
		}
	}
	h.onRouter("nft", "-f", rules)
	return h.inside.Network().Router().Start(h.t, "sh", "-c", `exec "$0" "$@" 2>&1`, daemon, "-d", "-f", config, "-P", filepath.Join(dir, "pid"))
}

// startNode starts the node at home.
func (h *home) startNode(more ...string) *natlab.Process {
	h.t.Helper()
	args := append([]string{"node", "--data=", "--admin=127.0.0.1:8788", "--dht=false", "--json"}, more...)
	for _, s := range h.servers {
		args = append(args, "--peer", "http://"+s.Addr().String()+":8787")
	}
	p := h.inside.Start(h.t, "sh", append([]string{"-c", `exec "$0" "$@" 2>&1`, h.binary}, args...)...) // with its log
	p.Await(patience, "start", func(line string) bool { return strings.HasPrefix(line, "{") })
	return p
}

// TestPortmap: the node's port and its STUN are reached from outside, which it
// learns, says in its record, and takes back when it ends.
func TestPortmap(t *testing.T) {
	for _, tt := range []struct{ upnp, natpmp, protocol string }{
		{"no", "yes", "pcp"},
		{"yes", "no", "upnp"},
	} {
		t.Run(tt.protocol, func(t *testing.T) {
			h := newHome(t)
			h.startDaemon(tt.upnp, tt.natpmp)
			node := h.startNode("--portmap")
			base := "http://" + netip.AddrPortFrom(h.outside, 8787).String()
			awaits(t, h.servers[0].StartSelf(t, "get", base+"/.well-known/peerserver", `"ws://`+h.outside.String()+`:8787"`))
			awaits(t, h.servers[1].StartSelf(t, "stun", netip.AddrPortFrom(h.outside, 3478).String()))
			awaits(t, h.inside.StartSelf(t, "get", "http://127.0.0.1:8788/stats.json", `"reach":{"tcp":"reached","stun":"reached"`))
			awaits(t, h.inside.StartSelf(t, "get", "http://127.0.0.1:8788/stats.json", `"portmap":"`+tt.protocol+`"`))
			awaits(t, h.inside.StartSelf(t, "get", "http://127.0.0.1:8788/self.json", `"`+h.outside.String()+`"`))
			if rules := h.onRouter("nft", "list", "table", "inet", "miniupnpd"); !strings.Contains(rules, "dnat") {
				t.Errorf("the router has no mapping:\n%s", rules)
			}
			node.Stop()
			if rules := h.onRouter("nft", "list", "table", "inet", "miniupnpd"); strings.Contains(rules, "dnat") {
				t.Errorf("mappings are left behind:\n%s", rules)
			}
		})
	}
}

// TestProtocols: each of the three by itself; a port that is somebody else's is
// mapped from another one, unless only the same number will do; and what was made
// is taken back.
func TestProtocols(t *testing.T) {
	h := newHome(t)
	h.startDaemon("yes", "yes")
	other := h.inside.Network().Host("other")
	for _, protocol := range []string{"pcp", "nat-pmp", "upnp"} {
		t.Run(protocol, func(t *testing.T) {
			p := h.inside.StartSelf(t, "map", protocol)
			p.Await(patience, "mappings", func(line string) bool {
				return line == protocol+" "+h.outside.String()+" [{{true 8787 false} 8787} {{false 3478 false} 3478} {{false 50000 true} 50000}]"
			})
			second := other.StartSelf(t, "map", protocol)
			line := second.Await(patience, "mappings of another machine", func(line string) bool { return strings.HasPrefix(line, protocol) })
			if strings.Contains(line, "8787} 8787") || strings.Contains(line, "50000") || !strings.Contains(line, "{true 8787 false} ") {
				t.Errorf("the other machine has %s", line)
			}
			second.Stop()
			p.Stop()
			if rules := h.onRouter("nft", "list", "table", "inet", "miniupnpd"); strings.Contains(rules, "dnat") {
				t.Errorf("mappings are left behind:\n%s", rules)
			}
		})
	}
}

// TestNoRouter: a router that maps nothing is asked now and then, and what asks
// ends at once when it is to.
func TestNoRouter(t *testing.T) {
	h := newHome(t)
	p := h.startNode("--portmap")
	p.Await(patience, "a warning", func(line string) bool { return strings.Contains(line, "ports are not mapped") })
	awaits(t, h.inside.StartSelf(t, "get", "http://127.0.0.1:8788/stats.json", `"portmap":"none"`))
	p.Stop()
}

// TestRefused: a router that can map ports, and lets nobody have one, is what
// doctor names, although no other node has tried the ports yet.
func TestRefused(t *testing.T) {
	h := newHome(t)
	router := h.startDaemon("yes", "no", "deny 0-65535 0.0.0.0/0 0-65535")
	alone := h.inside.Start(t, h.binary, "node", "--portmap", "--data=", "--dht=false", "--json")
	alone.Await(patience, "start", func(string) bool { return true })
	router.Await(patience, "a refusal", func(line string) bool { return strings.Contains(line, "Action not authorized") })
	out, err := h.inside.Command(t.Context(), h.binary, "doctor", "--json", "--idle", "100ms").Output()
	for _, code := range []string{"record_none", "reach_unknown", "portmap_failed"} {
		if err != nil || !strings.Contains(string(out), `"code":"`+code+`"`) {
			t.Errorf("doctor does not say %s: %v, %s", code, err, out)
		}
	}
}

// TestPublic: a node on the internet that was told no URL finds its own, and the
// others come to know it.
func TestPublic(t *testing.T) {
	h := newHome(t)
	bare := h.lab.Server("bare")
	args := []string{"node", "--data=", "--admin=", "--dht=false", "--json"}
	for _, s := range h.servers {
		args = append(args, "--peer", "http://"+s.Addr().String()+":8787")
	}
	bare.Start(t, h.binary, args...).Await(patience, "start", func(string) bool { return true })
	base := "http://" + bare.Addr().String() + ":8787"
	awaits(t, h.servers[0].StartSelf(t, "get", base+"/.well-known/peerserver", `"urls":["ws://`+bare.Addr().String()+`:8787"],"stun_port":3478`))
	awaits(t, h.servers[0].StartSelf(t, "get", base+"/stats.json", `"reach":{"tcp":"reached","stun":"reached"`))
	// Its STUN is among those that peers of another node are told of.
	awaits(t, h.servers[1].StartSelf(t, "get", "http://"+h.servers[0].Addr().String()+":8787/v1/ice", "stun:"+bare.Addr().String()+":3478"))
}

// TestUnreached: without port mapping nobody comes in, and the node says so; it is
// linked all the same.
func TestUnreached(t *testing.T) {
	h := newHome(t)
	node := h.startNode()
	node.Await(patience, "a warning", func(line string) bool {
		return strings.Contains(line, "do not reach") && strings.Contains(line, "--portmap")
	})
	awaits(t, h.inside.StartSelf(t, "get", "http://127.0.0.1:8788/stats.json", `"reach":{"tcp":"failed","stun":"failed"`))
	awaits(t, h.inside.StartSelf(t, "get", "http://127.0.0.1:8788/stats.json", `"links":2`))
}
