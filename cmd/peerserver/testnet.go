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
)

// freeAdmin is an admin address that no other node has.
const freeAdmin = "127.0.0.1:0"

// readyWithin is how long the nodes of a testnet have to start and to find
// each other.
const readyWithin = 30 * time.Second

// testnet is several nodes on this machine.
type testnet struct {
	nodes     int
	processes bool
	federate  bool
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
	fs.BoolVar(&t.federate, "federate", true, "let the nodes know each other")
	fs.DurationVar(&t.delay, "join-delay", 0, "let them know each other only after this `time`")
	fs.Uint64Var(&t.seed, "seed", 0, "make random choices repeatable, for tests")
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

// peers are the base URLs that node i knows: all others. It stands for what a
// DHT does in the open.
func (t *testnet) peers(urls []string, i int) []string {
	if !t.federate {
		return nil
	}
	others := make([]string, 0, len(urls))
	others = append(others, urls[:i]...)
	return append(others, urls[i+1:]...)
}

// open opens the port of every node, so that all are known before one runs.
func (t *testnet) open(ctx context.Context) ([]net.Listener, []string, error) {
	listeners := make([]net.Listener, 0, t.nodes)
	urls := make([]string, 0, t.nodes)
	for range t.nodes {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			closeAll(listeners)
			return nil, nil, err
		}
		listeners = append(listeners, l)
		urls = append(urls, "http://"+l.Addr().String())
	}
	return listeners, urls, nil
}

func closeAll(listeners []net.Listener) {
	for _, l := range listeners {
		l.Close()
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
	listeners, urls, err := t.open(ctx)
	if err != nil {
		return err
	}
	defer closeAll(listeners)
	nodes := make([]*node.Node, t.nodes)
	list := make([]description, t.nodes)
	for i, l := range listeners {
		nodes[i], err = node.New(node.Config{
			Listener: l, Admin: freeAdmin, AllowPrivate: true, Version: version(), Seed: t.seedOf(i), Log: t.log.With("node", i),
			Peers: t.peers(urls, i), PeerDelay: t.delay,
		})
		if err != nil {
			return err
		}
		list[i] = describe(nodes[i])
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var serving sync.WaitGroup
	failures := make(chan error, t.nodes)
	for _, n := range nodes {
		serving.Go(func() {
			failures <- n.Serve(ctx)
			stop() // one node that fails ends all
		})
	}
	err = t.announce(ctx, out, urls, list)
	stop()
	serving.Wait()
	close(failures)
	for failure := range failures {
		err = errors.Join(err, failure)
	}
	return err
}

// announce prints the nodes when they are ready, and waits for the end.
func (t *testnet) announce(ctx context.Context, out io.Writer, urls []string, list []description) error {
	if err := t.awaitKnown(ctx, urls); err != nil || ctx.Err() != nil {
		return err
	}
	if err := t.print(out, list); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// awaitKnown waits until all nodes answer and know all others, unless they are
// not to, or only later.
func (t *testnet) awaitKnown(ctx context.Context, urls []string) error {
	all := t.federate && t.delay == 0
	wait, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	for i, url := range urls {
		for {
			known, err := askKnown(wait, url)
			if err == nil && (!all || known >= len(urls)-1) {
				break
			}
			select {
			case <-time.After(10 * time.Millisecond):
				continue
			case <-ctx.Done():
				return nil
			case <-wait.Done():
			}
			return fmt.Errorf("node %d is not ready after %v and knows %d of %d others: %w", i, readyWithin, known, len(urls)-1, err)
		}
	}
	return nil
}

func askKnown(ctx context.Context, url string) (int, error) {
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
		Known int `json:"known"`
	}
	return s.Known, json.NewDecoder(answer.Body).Decode(&s)
}

func (t *testnet) print(out io.Writer, list []description) error {
	if t.json {
		return printJSON(out, map[string]any{"nodes": list})
	}
	for _, d := range list {
		if _, err := fmt.Fprintf(out, "node %s at %s\n", d.ID[:8], d.WS); err != nil {
			return err
		}
	}
	return nil
}

// runProcesses runs each node as a child process, which ends when this one
// does, however that happens: its standard input closes.
func (t *testnet) runProcesses(ctx context.Context, s streams) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	listeners, urls, err := t.open(ctx)
	if err != nil {
		return err
	}
	defer closeAll(listeners)
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
	for i, l := range listeners {
		args := []string{
			"node", "--listen-fd", "3", "--admin", freeAdmin, "--data", "", "--allow-private", "--end-with-stdin", "--json", "--log", t.level,
			"--seed", strconv.FormatUint(t.seedOf(i), 10), "--peer-delay", t.delay.String(),
		}
		for _, peer := range t.peers(urls, i) {
			args = append(args, "--peer", peer)
		}
		c, err := startChild(program, args, l.(*net.TCPListener), s.err)
		if err != nil {
			return err
		}
		children = append(children, c)
		l.Close() // the child has its own
	}
	for i, c := range children {
		if list[i], err = c.ready(ctx); err != nil {
			return fmt.Errorf("node %d: %w", i, err)
		}
	}
	return t.announce(ctx, s.out, urls, list)
}

// child is a node that is a process of its own.
type child struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	stdout io.Reader
}

func startChild(program string, args []string, l *net.TCPListener, log io.Writer) (*child, error) {
	f, err := l.File()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	cmd := exec.Command(program, args...) //nolint:noctx // it ends with its standard input, after saying goodbye
	cmd.Stderr, cmd.ExtraFiles, cmd.Env = log, []*os.File{f}, withoutSettings(os.Environ())
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
