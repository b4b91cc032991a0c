package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/peerservers/peerserver/node"
	"github.com/peerservers/peerserver/protocol"
	nets "github.com/peerservers/peerserver/testnet"
)

// Addresses that no other node has.
const (
	freeAdmin = "127.0.0.1:0"
	freeSTUN  = "127.0.0.1:0"
)

// readyWithin is how long the nodes of a testnet have to start and to find
// each other.
const readyWithin = 30 * time.Second

// testnet is several nodes on this machine.
type testnet struct {
	nodes     int
	processes bool
	federate  bool
	apart     time.Duration
	delay     time.Duration
	seed      uint64
	json      bool
	log       *slog.Logger
	level     string
}

func testnetCommand(fs *flag.FlagSet) func(context.Context, streams) error {
	var t testnet
	fs.IntVar(&t.nodes, "nodes", 3, "`number` of nodes")
	fs.BoolVar(&t.processes, "processes", false, "make every node a process of its own, so that one can be killed")
	fs.BoolVar(&t.federate, "federate", true, "let the nodes find each other; without it, each is alone")
	fs.DurationVar(&t.apart, "join-delay", 0, "start the nodes this `time` apart")
	fs.DurationVar(&t.delay, "know-after", 0, "let them look for each other only after this `time`")
	fs.Uint64Var(&t.seed, "seed", 0, "make random choices repeatable by this `number`")
	fs.BoolVar(&t.json, "json", false, "print one line of JSON when all are ready")
	level := logFlag(fs)
	return func(ctx context.Context, s streams) error {
		if t.nodes < 1 || t.nodes > 1000 {
			return fmt.Errorf("--nodes %d is not from 1 to 1000", t.nodes)
		}
		t.log, t.level = newLog(s.err, level), level.Level().String()
		if t.processes {
			return t.runProcesses(ctx, s)
		}
		return t.runInside(ctx, s.out)
	}
}

// ports are the sockets of one node.
type ports struct {
	listener net.Listener
	packets  net.PacketConn
}

// open opens the ports of every node, so that all are known before one runs.
func (t *testnet) open() (all []ports, addrs []string, err error) {
	for range t.nodes {
		l, p, err := nets.Listen("127.0.0.1:0")
		if err != nil {
			closeAll(all)
			return nil, nil, err
		}
		all = append(all, ports{l, p})
		addrs = append(addrs, l.Addr().String())
	}
	return all, addrs, nil
}

func closeAll(all []ports) {
	for _, p := range all {
		p.listener.Close()
		p.packets.Close()
	}
}

func (t *testnet) seedOf(i int) uint64 {
	if t.seed == 0 {
		return 0
	}
	return t.seed + uint64(i)
}

// runInside runs all nodes in this process.
func (t *testnet) runInside(ctx context.Context, out io.Writer) error {
	all, addrs, err := t.open() //nolint:contextcheck // opening a socket waits for nothing
	if err != nil {
		return err
	}
	defer closeAll(all)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var serving sync.WaitGroup
	failures := make(chan error, t.nodes)
	list := make([]description, t.nodes)
	for i, p := range all {
		n, err := node.New(node.Config{ //nolint:contextcheck // opening a socket waits for nothing
			Listener: p.listener, Packets: p.packets, Admin: freeAdmin, AllowPrivate: true, Seed: t.seedOf(i), Log: t.log.With("node", i),
			Bootstrap: nets.Bootstrap(addrs, i, !t.federate), PeerDelay: t.delay, Version: version(),
			STUN: freeSTUN, TURN: true, TURNAllowPrivate: true,
		})
		if err != nil {
			failures <- err
			break
		}
		list[i] = describe(n)
		serving.Go(func() {
			failures <- n.Serve(ctx)
			stop() // one node that fails ends all
		})
		if !t.pause(ctx, i) {
			break
		}
	}
	if len(failures) == 0 {
		err = t.announce(ctx, out, list)
	}
	stop()
	serving.Wait()
	close(failures)
	for failure := range failures {
		err = errors.Join(err, failure)
	}
	return err
}

// pause waits after the start of node i, but for the last. It reports false
// when all is to end.
func (t *testnet) pause(ctx context.Context, i int) bool {
	if t.apart == 0 || i == t.nodes-1 {
		return ctx.Err() == nil
	}
	t.log.Info("started", "node", i, "of", t.nodes, "next in", t.apart)
	select {
	case <-time.After(t.apart):
		return true
	case <-ctx.Done():
		return false
	}
}

// announce prints the nodes when they are ready, and waits for the end.
func (t *testnet) announce(ctx context.Context, out io.Writer, list []description) error {
	if err := t.awaitLinks(ctx, list); err != nil || ctx.Err() != nil {
		return err
	}
	if err := t.print(out, list); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// awaitLinks waits until all nodes answer and have found the others, a few of
// them where there are many, unless they are not to, or only later.
func (t *testnet) awaitLinks(ctx context.Context, list []description) error {
	want := 0
	if t.federate && t.delay == 0 {
		want = min(t.nodes-1, protocol.MeshLinks)
	}
	wait, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	for i, d := range list {
		for {
			links, err := askLinks(wait, d.URL)
			if err == nil && links >= want {
				break
			}
			select {
			case <-time.After(20 * time.Millisecond):
				continue
			case <-ctx.Done():
				return nil
			case <-wait.Done():
			}
			return fmt.Errorf("node %d is not ready after %v: linked to %d nodes, not %d (%w); is something else on the ports?", i, readyWithin, links, want, err)
		}
	}
	return nil
}

func askLinks(ctx context.Context, url string) (int, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/stats.json", nil)
	if err != nil {
		return 0, err
	}
	answer, err := http.DefaultClient.Do(q)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	var s struct {
		Relay struct {
			Links int `json:"links"`
		} `json:"relay"`
	}
	err = json.NewDecoder(answer.Body).Decode(&s)
	return s.Relay.Links, err
}

func (t *testnet) print(out io.Writer, list []description) error {
	if t.json {
		return printJSON(out, map[string]any{"nodes": list})
	}
	for _, d := range list {
		if _, err := fmt.Fprintf(out, "node %s   page %s/   clients %s   admin %s/\n", d.ID[:8], d.URL, d.WS, d.Admin); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(out, "Open two of the pages, and enter the same room in both.")
	return err
}

// runProcesses runs each node as a child process, which ends when this one
// does, however that happens: its standard input closes.
func (t *testnet) runProcesses(ctx context.Context, s streams) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	all, addrs, err := t.open() //nolint:contextcheck // opening a socket waits for nothing
	if err != nil {
		return err
	}
	defer closeAll(all)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	children := make([]*child, 0, t.nodes)
	defer func() {
		for _, c := range children {
			c.stdin.Close()
		}
		for _, c := range children {
			_ = c.cmd.Wait() // one may have been killed on purpose
		}
	}()
	list := make([]description, t.nodes)
	for i, p := range all {
		args := []string{
			"node", "--listen-fd", "3", "--udp-fd", "4", "--admin", freeAdmin, "--data", "", "--allow-private", "--end-with-stdin", "--json",
			"--log", t.level, "--seed", strconv.FormatUint(t.seedOf(i), 10), "--peer-delay", t.delay.String(),
			"--stun", freeSTUN, "--turn", "--turn-allow-private",
		}
		for _, at := range nets.Bootstrap(addrs, i, !t.federate) {
			args = append(args, "--bootstrap", at)
		}
		if !t.federate || t.nodes == 1 {
			args = append(args, "--dht=false")
		}
		c, err := startChild(program, args, p, s.err)
		if err != nil {
			return err
		}
		children = append(children, c)
		p.listener.Close() // the child has its own
		p.packets.Close()
		if list[i], err = c.ready(ctx); err != nil {
			return fmt.Errorf("node %d: %w", i, err)
		}
		if !t.pause(ctx, i) {
			return nil
		}
	}
	return t.announce(ctx, s.out, list)
}

// child is a node that is a process of its own.
type child struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	stdout io.Reader
}

func startChild(program string, args []string, p ports, log io.Writer) (*child, error) {
	l, err := p.listener.(*net.TCPListener).File()
	if err != nil {
		return nil, err
	}
	defer l.Close()
	u, err := p.packets.(*net.UDPConn).File()
	if err != nil {
		return nil, err
	}
	defer u.Close()
	cmd := exec.Command(program, args...) //nolint:noctx // it ends with its standard input, after saying goodbye
	cmd.Stderr, cmd.ExtraFiles, cmd.Env = log, []*os.File{l, u}, withoutSettings(os.Environ())
	c := &child{cmd: cmd}
	if c.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if c.stdout, err = cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	return c, cmd.Start()
}

// withoutSettings leaves out what is said to this process: a file that
// PEERSERVER_CONFIG names has the flags of testnet, and node has others.
func withoutSettings(environ []string) []string {
	return slices.DeleteFunc(environ, func(e string) bool { return strings.HasPrefix(e, envPrefix) })
}

// ready reads the line that a node prints.
func (c *child) ready(ctx context.Context) (description, error) {
	// Closing the input ends the child, and with it the read below.
	defer context.AfterFunc(ctx, func() { c.stdin.Close() })()
	var d description
	line, err := bufio.NewReader(c.stdout).ReadBytes('\n')
	if err != nil {
		return d, errors.New("ended before it was ready")
	}
	return d, json.Unmarshal(line, &d)
}
