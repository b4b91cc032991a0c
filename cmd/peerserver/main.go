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
	"slices"
	"syscall"
)

// command is one subcommand. set declares its flags and returns what runs when
// they are parsed; where args is not empty it names what may follow the flags,
// which is then in FlagSet.Args.
type command struct {
	name, args, short, about string
	examples                 []string
	tests                    []string // flags that are for tests and for programs that start nodes
	set                      func(*flag.FlagSet) func(context.Context, streams) error
}

// streams are where a command writes, and what may tell it to end.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

func commands() []command {
	return []command{
		{
			name: "node", short: "run one node", set: nodeCommand,
			about: "Runs one node until SIGINT or SIGTERM, and then lets its clients and the other nodes go elsewhere before it ends, which takes some seconds. A second signal ends it at once.",
			examples: []string{
				"peerserver node",
				"peerserver node --url wss://node.example.org --trusted-proxy 127.0.0.1/32",
				"peerserver node --listen :443 --tls-domain node.example.org",
				"peerserver node --without matchbox,rxdb --clients peerjs=1000",
				"peerserver node --token-file tokens.txt --app peerjs:my-key --app ywebrtc:my-room",
			},
			tests: []string{"listen-fd", "udp-fd", "end-with-stdin", "peer-delay", "seed"},
		},
		{
			name: "testnet", short: "run several nodes on this machine, to try things", set: testnetCommand,
			about:    "Runs several nodes on loopback, with a DHT of their own, on any free ports and with fresh keys. Prints their URLs when all are ready, and ends with SIGINT or SIGTERM. Nothing leaves the machine and nothing is kept.",
			tests:    []string{"federate", "know-after", "seed"},
			examples: []string{"peerserver testnet", "peerserver testnet --nodes 5 --processes --json"},
		},
		{
			name: "lookup", args: "APP", short: "find the nodes that serve an app", set: lookupCommand,
			about:    "Asks the DHT which nodes serve an app, asks each for its signed record, and prints those that verify. APP is an infohash, as 40 hex digits or 20 characters, or the app's name on the door of --door. Nothing is announced.",
			examples: []string{"peerserver lookup 2f1e0c9d8b7a6f5e4d3c2b1a09f8e7d6c5b4a392", "peerserver lookup --json --private --bootstrap 127.0.0.1:8787 2f1e0c9d8b7a6f5e4d3c2b1a09f8e7d6c5b4a392"},
		},
		{
			name: "join", args: "APP", short: "join an app from the terminal, and chat", set: joinCommand,
			about:    "Joins an app on a node, connects to its other peers, and prints who comes, who goes and what they say. Each line of standard input goes to all of them; it leaves when that ends. With --json there is a line for each event: joined, peer, leave or message. With --listen it prints an address instead, and APP may be such an address: then it meets just that peer, on the node that it names.",
			examples: []string{"peerserver join my-app", "peerserver join --lan my-app", "peerserver join --listen", "peerserver join --node wss://node.example.org --name Ada --json my-app"},
		},
		{
			name: "call", args: "APP TARGET COMMAND [JSON]", short: "have peers of an app run a command", set: callCommand,
			about:    "Joins an app, has peers in it run a command with JSON as its arguments, prints what they answer, and leaves. TARGET is the id of a peer or its beginning, name:NAME for those of a name, or '*' for all. It waits until all who are there are connected, but not longer than --wait. Every peer has the commands __echo__, __list_commands__ and __peers__. With several peers there is a line for each. Progress goes to standard error. With - for JSON it is read from standard input. The exit status is 1 if a call has failed.",
			examples: []string{"peerserver call my-app '*' __list_commands__", "peerserver call --json --node wss://node.example.org my-app name:printer print.page '{\"copies\": 2}'"},
		},
		doctorEntry(),
		benchEntry(),
		{
			name: "version", short: "print the version", set: versionCommand,
			about:    "Prints what the program was built from.",
			examples: []string{"peerserver version", "peerserver version --json"},
		},
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
	name, rest := args[0], args[1:]
	switch name {
	case "help", "-h", "-help", "--help":
		if len(rest) == 0 {
			usage(s.out)
			return 0
		}
		name, rest = rest[0], []string{"--help"}
	}
	all := commands()
	i := slices.IndexFunc(all, func(c command) bool { return c.name == name })
	if i < 0 {
		names := make([]string, len(all))
		for i, c := range all {
			names[i] = c.name
		}
		fmt.Fprintf(s.err, "peerserver: there is no command %q%s; \"peerserver help\" lists them\n", name, didYouMean(name, names))
		return 2
	}
	return all[i].run(ctx, rest, s)
}

func usage(w io.Writer) {
	fmt.Fprint(w, "A peerserver lets peers of an app meet, whichever server each of them uses.\n\nUsage: peerserver COMMAND [FLAGS]\n\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-8s  %-56s  %s\n", c.name, c.short, c.examples[0])
	}
	fmt.Fprint(w, "\n\"peerserver COMMAND --help\" lists the flags of a command. Each can also stand in\nthe environment (--trusted-proxy as PEERSERVER_TRUSTED_PROXY) or in a file that\n--config names, a line each (trusted-proxy = 10.0.0.0/8). The command line wins\nover the environment, the environment over the file.\n")
}

func (c *command) run(ctx context.Context, args []string, s streams) int {
	fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
	start := c.set(fs)
	switch err := parseFlags(fs, args, c.args != "", os.LookupEnv); {
	case errors.Is(err, flag.ErrHelp):
		c.help(s.out, fs)
		return 0
	case err != nil:
		fmt.Fprintf(s.err, "peerserver %s: %v\n", c.name, err)
		return 2
	}
	warnOfEnvironment(s.err, os.Environ())
	if err := start(ctx, s); err != nil {
		fmt.Fprintf(s.err, "peerserver %s: %v\n", c.name, err)
		return 1
	}
	return 0
}
