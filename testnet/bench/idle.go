package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"time"

	"github.com/peerservers/peerserver/testnet/bench/gear"
)

// IdleConfig is a run of connections that announce once and then wait.
type IdleConfig struct {
	URLs    []string
	PIDs    []int
	Clients int
	Swarm   int
	// PerProcess is how many connections one process opens. Zero is 5,000: a
	// quarter of the files that many systems let it have.
	PerProcess int
	// Settle is how long the connections wait before memory is read.
	Settle time.Duration
	// Worker makes the command of one more process, in which Worker is called:
	// one alone may not have so many files open.
	Worker func(context.Context) *exec.Cmd
	// Progress is told what is being done.
	Progress io.Writer
}

// IdleReport is what was measured of connections that wait.
type IdleReport struct {
	Clients   int     `json:"clients"`
	Processes int     `json:"processes"`
	Opened    float64 `json:"opened_per_second"`    // TCP and upgrade
	Announced float64 `json:"announced_per_second"` // first announce and its reply

	// CPU seconds of all servers per 1,000 connections: to open them, and to
	// take their announce.
	OpenCPU     float64 `json:"open_cpu_seconds_per_1000"`
	AnnounceCPU float64 `json:"announce_cpu_seconds_per_1000"`

	// Memory of all servers: before, and with the connections that wait.
	RSSBefore int64   `json:"rss_before_bytes"`
	RSS       int64   `json:"rss_bytes"`
	PerClient float64 `json:"rss_bytes_per_connection"` // of the difference
}

// order is what a worker is told, on its standard input.
type order struct {
	URLs    []string `json:"urls"`
	From    int      `json:"from"` // its clients
	To      int      `json:"to"`
	Clients int      `json:"clients"` // of all workers
	Swarm   int      `json:"swarm"`
	Seed    uint64   `json:"seed"`
}

// done is what a worker says, on its standard output, after each step: ready,
// opened, announced.
type done struct {
	Error string `json:"error,omitempty"`
}

// Idle opens connections from several processes, has each announce once, waits,
// and reports what the servers needed for it.
func Idle(ctx context.Context, cfg IdleConfig) (*Report, error) {
	orElse(&cfg.Swarm, DefaultSwarm)
	orElse(&cfg.PerProcess, 5000)
	orElse(&cfg.Progress, io.Discard)
	base := Config{URLs: cfg.URLs, Clients: cfg.Clients, Swarm: cfg.Swarm, Layout: All}
	if err := base.complete(); err != nil {
		return nil, err
	}
	if _, err := newLayout(&base); err != nil {
		return nil, err
	}
	report := &Report{Machine: gear.ThisMachine(), URLs: cfg.URLs, Swarm: cfg.Swarm, Clients: cfg.Clients}
	var workers []*worker
	defer func() {
		for _, w := range workers {
			w.end()
		}
	}()
	for from := 0; from < cfg.Clients; from += cfg.PerProcess {
		w, err := startWorker(cfg.Worker(ctx), order{
			URLs: cfg.URLs, From: from, To: min(from+cfg.PerProcess, cfg.Clients), Clients: cfg.Clients, Swarm: cfg.Swarm, Seed: base.Seed,
		})
		if w != nil {
			workers = append(workers, w)
		}
		if err != nil {
			return nil, err
		}
	}
	i := &IdleReport{Clients: cfg.Clients, Processes: len(workers)}
	report.Idle = i
	if err := step(workers); err != nil { // ready
		return nil, err
	}
	start := gear.ReadUsage(cfg.PIDs)
	fmt.Fprintf(cfg.Progress, "opening %d connections from %d processes\n", cfg.Clients, len(workers))
	took, opened, err := timed(workers, cfg.PIDs, start)
	if err != nil {
		return nil, err
	}
	i.Opened, i.OpenCPU = float64(cfg.Clients)/took, opened*1000/float64(cfg.Clients)
	fmt.Fprintln(cfg.Progress, "announcing each")
	took, announced, err := timed(workers, cfg.PIDs, gear.ReadUsage(cfg.PIDs))
	if err != nil {
		return nil, err
	}
	i.Announced, i.AnnounceCPU = float64(cfg.Clients)/took, announced*1000/float64(cfg.Clients)
	fmt.Fprintf(cfg.Progress, "waiting %v\n", cfg.Settle)
	if !gear.Pause(ctx, cfg.Settle) {
		return nil, ctx.Err()
	}
	end := gear.ReadUsage(cfg.PIDs)
	for n := range cfg.PIDs {
		if err := errors.Join(start[n].Err, end[n].Err); err != nil {
			return nil, err
		}
		i.RSSBefore += start[n].RSS
		i.RSS += end[n].RSS
	}
	i.PerClient = float64(i.RSS-i.RSSBefore) / float64(cfg.Clients)
	report.Machine.LoadAfter = gear.LoadAverage()
	return report, nil
}

// timed has all workers take the next step, and says how long that took and the
// CPU seconds that the servers needed for it.
func timed(workers []*worker, pids []int, before []gear.Usage) (seconds, cpu float64, err error) {
	start := time.Now()
	for _, w := range workers {
		if _, err := io.WriteString(w.in, "\n"); err != nil {
			return 0, 0, err
		}
	}
	if err := step(workers); err != nil {
		return 0, 0, err
	}
	seconds = time.Since(start).Seconds()
	_, _, cpu = gear.Used(before, gear.ReadUsage(pids))
	return seconds, cpu, nil
}

// step waits until every worker has finished a step.
func step(workers []*worker) error {
	for _, w := range workers {
		var d done
		if err := w.out.Decode(&d); err != nil {
			return fmt.Errorf("a process of the generator: %w", err)
		}
		if d.Error != "" {
			return errors.New(d.Error)
		}
	}
	return nil
}

// worker is one more process of the generator. It ends with its input.
type worker struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder
}

func startWorker(cmd *exec.Cmd, o order) (*worker, error) {
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	w := &worker{cmd: cmd, in: in, out: json.NewDecoder(bufio.NewReader(out))}
	return w, json.NewEncoder(in).Encode(o)
}

func (w *worker) end() {
	w.in.Close()
	_ = w.cmd.Wait() // what went wrong has been said
}

func (i *IdleReport) write(row func(string, string, ...any)) {
	row("idle", "%d connections from %d processes, each announced once", i.Clients, i.Processes)
	row("opened", "%.0f/s, %.4f CPU s per 1,000", i.Opened, i.OpenCPU)
	row("announced", "%.0f/s, %.4f CPU s per 1,000", i.Announced, i.AnnounceCPU)
	row("memory", "%s RSS, before %s: %.0f bytes a connection", megabytes(i.RSS), megabytes(i.RSSBefore), i.PerClient)
}
