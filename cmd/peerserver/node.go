package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"

	"github.com/peerservers/peerserver/node"
)

// description is what --json prints of a running node.
type description struct {
	ID    string `json:"id"`
	URL   string `json:"url"`
	WS    string `json:"ws"`
	Admin string `json:"admin"`
	PID   int    `json:"pid"`
}

func describe(n *node.Node) description {
	host := local(n.Addr())
	return description{ID: n.ID().String(), URL: "http://" + host, WS: "ws://" + host, Admin: "http://" + host, PID: os.Getpid()}
}

// local is where the machine itself reaches an address that it listens on.
func local(a net.Addr) string {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return a.String()
	}
	at := tcp.AddrPort()
	if at.Addr().IsUnspecified() {
		at = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), at.Port())
	}
	return at.String()
}

func nodeCommand(fs *flag.FlagSet) func(context.Context, streams) error {
	var cfg node.Config
	var urls, peers, origins, proxies stringList
	fs.StringVar(&cfg.Listen, "listen", ":8787", "`address` of the node's port")
	fd := fs.Int("listen-fd", 0, "use this open `descriptor` instead of --listen")
	fs.Var(&urls, "url", "where other nodes reach this one, `wss://host[:port]` or ws://ip:port; may be repeated")
	fs.Var(&peers, "peer", "base `URL` of a node to know, https://host[:port]; may be repeated")
	fs.DurationVar(&cfg.PeerDelay, "peer-delay", 0, "ask the nodes of --peer only after this `time`")
	fs.Var(&origins, "origin", "web `origin` that may connect, all if none is given; may be repeated")
	fs.Var(&proxies, "trusted-proxy", "address `range` whose X-Forwarded-For is believed, such as 10.0.0.0/8; may be repeated")
	fs.BoolVar(&cfg.AllowPrivate, "allow-private", false, "meet nodes on private addresses too; no quotas on loopback")
	fs.Uint64Var(&cfg.Seed, "seed", 0, "make random choices repeatable, for tests")
	endWithStdin := fs.Bool("end-with-stdin", false, "end when standard input does, as a child process")
	asJSON := fs.Bool("json", false, "print one line of JSON when ready")
	level := logFlag(fs)
	return func(ctx context.Context, s streams) error {
		cfg.URLs, cfg.Peers, cfg.Origins = urls, peers, origins
		for _, p := range proxies {
			prefix, err := netip.ParsePrefix(p)
			if err != nil {
				return err
			}
			cfg.TrustedProxies = append(cfg.TrustedProxies, prefix)
		}
		if *fd != 0 {
			l, err := net.FileListener(os.NewFile(uintptr(*fd), "listener"))
			if err != nil {
				return err
			}
			cfg.Listener = l
		}
		cfg.Log = newLog(s.err, level)
		if *endWithStdin {
			var stop context.CancelFunc
			ctx, stop = context.WithCancel(ctx)
			defer stop()
			// It ends with the process: a read of standard input cannot be
			// called off.
			go func() {
				_, _ = io.Copy(io.Discard, s.in)
				stop()
			}()
		}
		return serveNode(ctx, cfg, *asJSON, s.out)
	}
}

func serveNode(ctx context.Context, cfg node.Config, asJSON bool, out io.Writer) error {
	n, err := node.New(cfg)
	if err != nil {
		return err
	}
	d := describe(n)
	if asJSON {
		err = printJSON(out, d)
	} else {
		_, err = fmt.Fprintf(out, "node %s at %s\n", d.ID, d.WS)
	}
	if err != nil {
		n.Close()
		return err
	}
	return n.Serve(ctx)
}
