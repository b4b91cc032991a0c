//go:build linux

package natlab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// What the processes of a lab tell each other in their environment.
const (
	envInside  = "NATLAB_INSIDE"  // in the namespaces: first, or tests
	envLacks   = "NATLAB_LACKS"   // why there are none
	envProgram = "NATLAB_PROGRAM" // which of Programs the process is to be
)

// run is the private folder of the namespaces, gone with them.
const run = "/run"

// Programs are those that a test brings along, by name: [Host.StartSelf] runs
// one as a process on a host. Each gets what follows its name; ctx ends with
// SIGTERM. An error is printed, and the exit status is then 1.
type Programs map[string]func(ctx context.Context, args []string) error

// Main runs the tests of a package, to be called by its TestMain: in namespaces
// of their own, which end with the tests. Where those cannot be made the tests
// run outside, and [Start] skips them. It does not return.
func Main(m *testing.M, programs Programs) {
	if name := os.Getenv(envProgram); name != "" {
		os.Exit(runProgram(name, programs[name]))
	}
	switch os.Getenv(envInside) {
	case "tests":
		os.Exit(m.Run())
	case "first":
		os.Exit(first())
	}
	if lack := lacks(); lack != "" {
		os.Setenv(envLacks, lack)
		os.Exit(m.Run())
	}
	os.Exit(enter())
}

func runProgram(name string, program func(context.Context, []string) error) int {
	if program == nil {
		fmt.Fprintf(os.Stderr, "natlab: there is no program %q\n", name)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := program(ctx, os.Args[1:]); err != nil && ctx.Err() == nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		return 1
	}
	return 0
}

// lacks says what of a lab's needs is not there, or nothing.
func lacks() string {
	var missing []string
	if os.Getuid() != 0 {
		missing = append(missing, "root")
	}
	for program, pkg := range map[string]string{"ip": "iproute2", "nft": "nftables"} {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, program+" ("+pkg+")")
		}
	}
	if _, err := os.Stat(tunDevice); err != nil {
		missing = append(missing, tunDevice)
	}
	if len(missing) == 0 {
		if err := inNamespaces(exec.Command("true")).Run(); err != nil { //nolint:noctx // it ends at once
			missing = append(missing, "the right to make namespaces")
		}
	}
	return strings.Join(missing, ", ")
}

// enter runs this program anew in namespaces, as their first process, and
// returns its exit status.
func enter() int {
	// The signal that the child gets when its parent dies comes when its parent's thread does.
	runtime.LockOSThread()
	cmd, err := again("first")
	if err == nil {
		err = inNamespaces(cmd).Start()
	}
	if err != nil {
		return failed(err)
	}
	defer passSignals(cmd.Process)()
	var exit *exec.ExitError
	if err = cmd.Wait(); errors.As(err, &exit) && exit.ExitCode() >= 0 {
		return exit.ExitCode()
	}
	if err != nil {
		return failed(err)
	}
	return 0
}

// first is what the first process of the namespaces does: it runs the tests and
// returns their exit status. It is the parent of all whose parent has ended, and
// takes note of their ends.
func first() int {
	if err := furnish(); err != nil {
		return failed(err)
	}
	cmd, err := again("tests")
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return failed(err)
	}
	defer passSignals(cmd.Process)()
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return failed(err)
		case pid == cmd.Process.Pid && status.Signaled():
			return 128 + int(status.Signal())
		case pid == cmd.Process.Pid:
			return status.ExitStatus()
		}
	}
}

func failed(err error) int {
	fmt.Fprintln(os.Stderr, "natlab:", err)
	return 1
}

// again is this program with its arguments.
func again(as string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, os.Args[1:]...) //nolint:noctx // it is ended by signals
	cmd.Env = append(os.Environ(), envInside+"="+as, "TMPDIR="+filepath.Join(run, "tmp"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd, nil
}

// passSignals has a process get those that this one gets, until stop is called.
func passSignals(to *os.Process) (stop func()) {
	signals, done := make(chan os.Signal, 4), make(chan struct{})
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT)
	var passing sync.WaitGroup
	passing.Go(func() {
		for {
			select {
			case s := <-signals:
				_ = to.Signal(s)
			case <-done:
				return
			}
		}
	})
	return func() {
		signal.Stop(signals)
		close(done)
		passing.Wait()
	}
}

// inNamespaces has a command start in new ones, and end with this thread.
func inNamespaces(cmd *exec.Cmd) *exec.Cmd {
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
	}
	return cmd
}

// furnish makes the new namespaces fit to live in: a /run and a folder for
// temporary files that nobody else sees, a /proc of the processes within, and
// loopback.
func furnish() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("mounts of one's own: %w", err)
	}
	if err := unix.Mount("tmpfs", run, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("a /run: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("a /proc: %w", err)
	}
	for _, dir := range []string{"netns", "natlab", "tmp"} {
		if err := os.Mkdir(filepath.Join(run, dir), 0o755); err != nil {
			return err
		}
	}
	// What is mounted there by one program is seen by all; ip would see to that too, later.
	netns := filepath.Join(run, "netns")
	if err := errors.Join(unix.Mount(netns, netns, "", unix.MS_BIND, ""), unix.Mount("", netns, "", unix.MS_SHARED, "")); err != nil {
		return fmt.Errorf("a folder of namespaces: %w", err)
	}
	return command(context.Background(), "ip", "link", "set", "lo", "up")
}

// command runs a tool to its end; what it says is in the error.
func command(ctx context.Context, name string, args ...string) error {
	return feed(ctx, "", name, args...)
}

// feed is command with something to read.
func feed(ctx context.Context, input, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}
