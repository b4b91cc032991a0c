// Command peerserver runs a node of the mesh, or a whole net of them to try
// things on.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

// command is one subcommand. set declares its flags and returns what runs when
// they are parsed.
type command struct {
	name, short, example string
	set                  func(*flag.FlagSet) func(context.Context, streams) error
}

// streams are where a command writes, and what may tell it to end.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

func commands() []command {
	return []command{
		{"node", "run one node", "peerserver node --listen :8787", nodeCommand},
		{"testnet", "run several nodes on this machine that know each other", "peerserver testnet --nodes 3 --json", testnetCommand},
		{"version", "print the version", "peerserver version", versionCommand},
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the program at once.
	context.AfterFunc(ctx, stop)
	code := run(ctx, os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr})
	stop()
	os.Exit(code)
}

// run runs one command line and returns the exit status.
func run(ctx context.Context, args []string, s streams) int {
	if len(args) == 0 {
		usage(s.err)
		return 2
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		usage(s.out)
		return 0
	}
	for _, c := range commands() {
		if c.name == args[0] {
			return c.run(ctx, args[1:], s)
		}
	}
	fmt.Fprintf(s.err, "peerserver: there is no command %q\n\n", args[0])
	usage(s.err)
	return 2
}

func usage(w io.Writer) {
	fmt.Fprint(w, "Usage: peerserver COMMAND [FLAGS]\n\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-8s  %-52s  %s\n", c.name, c.short, c.example)
	}
	fmt.Fprint(w, "\nEvery flag can also stand in the environment, --allow-private as\nPEERSERVER_ALLOW_PRIVATE, or in a file named by --config, a line each:\nallow-private = true. \"peerserver COMMAND --help\" lists them.\n")
}

func (c command) run(ctx context.Context, args []string, s streams) int {
	fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
	fs.SetOutput(s.err)
	fs.Usage = func() {
		fmt.Fprintf(fs.Output(), "Usage of peerserver %s: %s.\n\n  %s\n\n", c.name, c.short, c.example)
		printFlags(fs.Output(), fs)
	}
	start := c.set(fs)
	if len(args) > 0 && (args[0] == "--help" || args[0] == "-h") {
		fs.SetOutput(s.out)
	}
	switch err := parseFlags(fs, args, os.LookupEnv); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintf(s.err, "peerserver %s: %v\n", c.name, err)
		return 2
	}
	if err := start(ctx, s); err != nil {
		fmt.Fprintf(s.err, "peerserver %s: %v\n", c.name, err)
		return 1
	}
	return 0
}

func versionCommand(fs *flag.FlagSet) func(context.Context, streams) error {
	json := fs.Bool("json", false, "print as JSON")
	return func(_ context.Context, s streams) error {
		v := version()
		if *json {
			return printJSON(s.out, map[string]string{"version": v})
		}
		_, err := fmt.Fprintln(s.out, "peerserver", v)
		return err
	}
}

// version is the module's, or the commit it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	if v == "" || v == "(devel)" {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return "devel-" + s.Value[:min(12, len(s.Value))]
			}
		}
	}
	return v
}
