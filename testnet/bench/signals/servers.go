package signals

import (
	"bufio"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

//go:embed reference.mjs
var reference string

// startWithin is how long servers have to start.
const startWithin = 40 * time.Second

// Servers are processes on this machine.
type Servers struct {
	Name string // and version, of a reference server
	URLs []string
	PIDs []int

	cmd *exec.Cmd
	in  io.Closer
}

// StartReference starts the reference server of a protocol, whose package is
// installed in a folder.
func StartReference(ctx context.Context, p Protocol, packages string) (*Servers, error) {
	cmd := exec.CommandContext(ctx, "node", "--input-type=module", "-e", reference, "--", string(p))
	cmd.Dir = packages
	return start(cmd)
}

// StartNodes starts nodes that know each other, each a process of its own.
func StartNodes(ctx context.Context, program string, n int) (*Servers, error) {
	return start(exec.CommandContext(ctx, program, "testnet", "--nodes", strconv.Itoa(n), "--processes", "--json", "--log", "warn"))
}

func start(cmd *exec.Cmd) (*Servers, error) {
	cmd.Stderr = os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
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
	s := &Servers{cmd: cmd, in: in}
	late := time.AfterFunc(startWithin, func() { _ = cmd.Process.Kill() })
	line, err := bufio.NewReader(out).ReadBytes('\n')
	late.Stop()
	if err == nil {
		err = s.read(line)
	}
	if err != nil {
		s.End()
		return nil, fmt.Errorf("the servers did not start: %w", err)
	}
	return s, nil
}

// read reads the line that servers print when they are ready.
func (s *Servers) read(line []byte) error {
	type server struct {
		WS   string `json:"ws"`
		PID  int    `json:"pid"`
		Name string `json:"name"`
	}
	var net struct {
		server
		Nodes []server `json:"nodes"`
	}
	if err := json.Unmarshal(line, &net); err != nil {
		return err
	}
	if net.WS != "" {
		net.Nodes = append(net.Nodes, net.server)
	}
	for _, one := range net.Nodes {
		s.URLs, s.PIDs, s.Name = append(s.URLs, one.WS), append(s.PIDs, one.PID), one.Name
	}
	if len(net.Nodes) == 0 {
		return errors.New("they name no URL")
	}
	return nil
}

// End ends the servers and waits for that.
func (s *Servers) End() {
	s.in.Close()
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(10*time.Second, func() { _ = s.cmd.Process.Kill() })
	defer late.Stop()
	_ = s.cmd.Wait() // however they ended
}
