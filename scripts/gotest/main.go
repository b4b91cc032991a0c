// Gotest runs go test and says what it does: one line for each package, the
// whole output of what failed, a line a minute for what is still running, and
// every skipped test with its reason. With CI=true a skipped test is a failure.
//
//	go run ./scripts/gotest [flags and packages of go test]
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "gotest:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	// A list that came out empty would otherwise test the folder we stand in, and pass.
	if !slices.ContainsFunc(args, func(a string) bool { return !strings.HasPrefix(a, "-") && strings.Contains(a, "/") }) {
		return errors.New("no packages to test")
	}
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-json"}, args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	cmd.Stderr = os.Stderr
	out, in := io.Pipe()
	cmd.Stdout = in
	r := newReport(os.Stdout)
	read := make(chan error, 1)
	go func() { read <- r.read(out) }()
	err := cmd.Run()
	in.Close()
	if readErr := <-read; readErr != nil && err == nil {
		err = readErr
	}
	return r.finish(err, os.Getenv("CI") == "true")
}
