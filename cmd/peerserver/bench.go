package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/peerservers/peerserver/testnet/bench"
)

// setupWithin is how long servers may take for what comes before and after the
// measurement.
const setupWithin = 2 * time.Minute

// benchEntry is the command's place among the others.
func benchEntry() command {
	return command{
		name: "bench", args: "URL...", short: "load trackers with offers and measure them", set: benchCommand,
		about: "Connects WebTorrent clients to one tracker, or to several nodes that know each other, has them offer and answer, checks every byte and prints what was lost, how long it took and what it cost the servers. " +
			"Clients of several servers sit so that every offer crosses from one to the next. All come from addresses of loopback if the server is there; a node needs --allow-private, which lifts its quotas for them. The status is 1 when anything was lost, duplicated, misrouted or changed.",
		examples: []string{
			"peerserver bench --duration 5s ws://127.0.0.1:8787",
			"peerserver bench --pid 4711 --rate 1000 ws://127.0.0.1:8787",
			"peerserver testnet --nodes 2 --processes --json >net & sleep 2; peerserver bench --nodes net",
			"peerserver bench --nodes net --idle 19500",
		},
		tests: []string{"seed", "worker"},
	}
}

// benchFlags are those that are not fields of a bench.Config as they stand.
type benchFlags struct {
	cfg          bench.Config
	nodes        string
	pids         stringList
	idle         int
	settle       time.Duration
	json, worker bool
}

func benchCommand(fs *flag.FlagSet) func(context.Context, streams) error {
	var f benchFlags
	cfg := &f.cfg
	fs.Var(&f.pids, "pid", "`process` of a server on this machine, whose CPU time and memory are read; may be repeated")
	fs.StringVar(&f.nodes, "nodes", "", "`file` with the line that node or testnet prints with --json: their URLs and processes")
	fs.IntVar(&cfg.Clients, "conns", bench.DefaultClients, "`number` of connections")
	fs.IntVar(&cfg.Swarm, "swarm", bench.DefaultSwarm, "`number` of members of a swarm; under 50, nodes hold offers for late comers too")
	fs.Func("layout", "all (each connection in one swarm, its members on all servers) or cross (a swarm for each connection to offer to, its other members on the next server; the `layout` for several servers)", func(v string) error {
		cfg.Layout = bench.Layout(v)
		return nil
	})
	fs.IntVar(&cfg.Parallel, "parallel", 0, "`number` of announces of a closed loop that are under way at a time, by connections in turn; 0 is one for each connection")
	fs.IntVar(&cfg.Offers, "offers", bench.DefaultOffers, "offers in an `announce`")
	fs.IntVar(&cfg.Payload, "payload", bench.DefaultPayload, "size of an offer or answer in `bytes`")
	fs.Float64Var(&cfg.Rate, "rate", 0, "offers per `second` that are sent whatever comes back; 0 is the closed loop: an announce follows when all offers of one are answered")
	fs.DurationVar(&cfg.Warmup, "warmup", bench.DefaultWarmup, "`time` under load before the measurement")
	fs.DurationVar(&cfg.Duration, "duration", bench.DefaultDuration, "`time` of the measurement")
	fs.DurationVar(&cfg.Grace, "grace", bench.DefaultGrace, "`time` after it in which answers still count")
	fs.IntVar(&f.idle, "idle", 0, "instead of load, open this `number` of connections, announce on each, and read the servers' memory")
	fs.DurationVar(&f.settle, "settle", 10*time.Second, "`time` that these wait before memory is read")
	fs.BoolVar(&f.json, "json", false, "print one line of JSON")
	fs.Uint64Var(&cfg.Seed, "seed", 0, "make ids and payloads repeatable by this `number`")
	fs.BoolVar(&f.worker, "worker", false, "be one process of --idle, led by standard input")
	return func(ctx context.Context, s streams) error {
		if f.worker {
			return bench.Worker(ctx, s.in, s.out)
		}
		if err := f.complete(fs.Args()); err != nil {
			return err
		}
		cfg.Progress = s.err
		return f.run(ctx, s)
	}
}

// complete reads what the flags name.
func (f *benchFlags) complete(args []string) error {
	for _, a := range args {
		if strings.HasPrefix(a, "-") {
			return fmt.Errorf("%s stands after a URL; flags go first", a)
		}
		f.cfg.URLs = append(f.cfg.URLs, a)
	}
	for _, p := range f.pids {
		pid, err := strconv.Atoi(p)
		if err != nil {
			return fmt.Errorf("--pid %q is not a number", p)
		}
		f.cfg.PIDs = append(f.cfg.PIDs, pid)
	}
	if f.nodes != "" {
		list, err := readNodes(f.nodes)
		if err != nil {
			return fmt.Errorf("--nodes: %w", err)
		}
		for _, d := range list {
			f.cfg.URLs = append(f.cfg.URLs, d.WS)
			f.cfg.PIDs = append(f.cfg.PIDs, d.PID)
		}
	}
	if len(f.cfg.URLs) == 0 {
		return fmt.Errorf("name a server, such as ws://127.0.0.1:8787, or a file with --nodes")
	}
	return nil
}

// readNodes reads the line that node or testnet prints.
func readNodes(file string) ([]description, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var net struct {
		description
		Nodes []description `json:"nodes"`
	}
	if err := json.Unmarshal(bytes.TrimSpace(b), &net); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if net.WS != "" {
		net.Nodes = append(net.Nodes, net.description)
	}
	if len(net.Nodes) == 0 {
		return nil, fmt.Errorf("%s names no nodes", file)
	}
	return net.Nodes, nil
}

func (f *benchFlags) run(ctx context.Context, s streams) error {
	ctx, cancel := context.WithTimeoutCause(ctx, f.cfg.Warmup+f.cfg.Duration+f.cfg.Grace+f.settle+setupWithin, fmt.Errorf("not done within %v of what the flags ask for", setupWithin))
	defer cancel()
	var r *bench.Report
	var err error
	if f.idle > 0 {
		r, err = f.runIdle(ctx, s.err)
	} else {
		r, err = bench.Run(ctx, f.cfg)
	}
	if err != nil {
		return err
	}
	if f.json {
		err = printJSON(s.out, r)
	} else {
		err = r.Write(s.out)
	}
	if err != nil {
		return err
	}
	return r.Err()
}

func (f *benchFlags) runIdle(ctx context.Context, progress io.Writer) (*bench.Report, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return bench.Idle(ctx, bench.IdleConfig{
		URLs: f.cfg.URLs, PIDs: f.cfg.PIDs, Clients: f.idle, Swarm: f.cfg.Swarm, Settle: f.settle, Progress: progress,
		Worker: func(ctx context.Context) *exec.Cmd {
			cmd := exec.CommandContext(ctx, program, "bench", "--worker")
			cmd.Stderr = progress
			return cmd
		},
	})
}
