package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime/debug"

	"github.com/peerservers/peerserver/node"
	"github.com/peerservers/peerserver/protocol"
)

// description is what --json prints of a running node.
type description struct {
	ID    string `json:"id"`
	URL   string `json:"url"`
	WS    string `json:"ws"`
	Admin string `json:"admin"` // empty when there are no admin pages
	PID   int    `json:"pid"`
}

func describe(n *node.Node) description {
	d := description{ID: n.ID().String(), PID: os.Getpid()}
	d.URL, d.WS = base(n)
	if a := n.Admin(); a != nil {
		d.Admin = "http://" + local(a)
	}
	return d
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

// nodeFlags are those that are not fields of a node.Config as they stand.
type nodeFlags struct {
	cfg                  node.Config
	urls, peers, proxies stringList
	bootstrap            stringList
	doors                doorFlags
	fd, udpFD            int
	endWithStdin, json   bool
	dht, announce        bool
}

func nodeCommand(fs *flag.FlagSet) func(context.Context, streams) error {
	var f nodeFlags
	data, dataErr := node.DefaultData()
	fs.StringVar(&f.cfg.Listen, "listen", ":8787", "`address` of the node's port, for clients and other nodes")
	fs.Var(&f.urls, "url", "where other nodes reach this one, `wss://host[:port]` or ws://ip:port; may be repeated")
	fs.StringVar(&f.cfg.Data, "data", data, "`folder` for what must outlive the node, its key first of all; empty keeps nothing")
	fs.StringVar(&f.cfg.Admin, "admin", node.DefaultAdmin, "`address` of the pages for the operator, which ask for no password; empty is none")
	fs.Var(&f.peers, "peer", "base `URL` of a node to know from the start, https://host[:port]; may be repeated")
	fs.BoolVar(&f.dht, "dht", true, "take part in the mainline DHT, over UDP on the port of --listen; without it only the nodes of --peer are known, and who dials")
	fs.Var(&f.bootstrap, "bootstrap", "where to meet the DHT, `host:port`; may be repeated; mainline's well-known nodes if none is given")
	fs.BoolVar(&f.announce, "announce", true, "let other nodes find this one; without it, it only dials out")
	fs.BoolVar(&f.cfg.AllowPrivate, "allow-private", false, "meet nodes on private addresses too; no quotas on loopback")
	fs.BoolVar(&f.cfg.LAN, "lan", false, "announce the node on the local network, and meet the nodes that are heard there")
	fs.Var(&f.proxies, "trusted-proxy", "address `range` whose X-Forwarded-For is believed, such as 10.0.0.0/8; may be repeated")
	fs.IntVar(&f.cfg.AddressConns, "address-conns", 500, "how many `connections` one client address may have, its other quotas in proportion; -1 is no bound")
	fs.IntVar(&f.cfg.RelayData, "relay-data", protocol.RelayData, "how many `bytes` a second a peer may send to others that it has no direct path to; 0 relays none")
	tlsFlags(fs, &f.cfg)
	iceFlags(fs, &f.cfg)
	f.doors.declare(fs)
	fs.BoolVar(&f.json, "json", false, "print one line of JSON when ready")
	level := logFlag(fs)
	fs.IntVar(&f.fd, "listen-fd", 0, "use this open file `descriptor` instead of --listen")
	fs.IntVar(&f.udpFD, "udp-fd", 0, "use this open file `descriptor` for the DHT")
	fs.BoolVar(&f.endWithStdin, "end-with-stdin", false, "end when standard input does, as a child process")
	fs.DurationVar(&f.cfg.PeerDelay, "peer-delay", 0, "look for other nodes only after this `time`")
	fs.Uint64Var(&f.cfg.Seed, "seed", 0, "make random choices repeatable by this `number`")
	return func(ctx context.Context, s streams) error {
		if data == "" && f.cfg.Data == "" && dataErr != nil && !isSet(fs, "data") {
			return dataErr
		}
		if err := f.complete(); err != nil {
			return err
		}
		f.cfg.Log = newLog(s.err, level)
		if f.endWithStdin {
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
		saveMemory()
		return f.serve(ctx, s.out)
	}
}

// saveMemory has garbage collected early. What passes through a node is pooled,
// so that little of it becomes garbage; but the runtime counts the stacks of all
// connections as a reason to let more lie about. GOGC, where it is set, decides.
func saveMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(25)
	}
}

// isSet says whether a flag was set at all, if to nothing.
func isSet(fs *flag.FlagSet, name string) (set bool) {
	fs.Visit(func(f *flag.Flag) { set = set || f.Name == name })
	return set
}

// complete makes a node.Config of the flags.
func (f *nodeFlags) complete() error {
	f.cfg.URLs, f.cfg.Peers, f.cfg.Version = f.urls, f.peers, version()
	f.cfg.NoDHT, f.cfg.NoAnnounce = !f.dht, !f.announce
	if err := f.doors.complete(&f.cfg); err != nil {
		return err
	}
	if f.cfg.RelayData == 0 {
		f.cfg.RelayData = -1
	}
	if len(f.bootstrap) > 0 {
		f.cfg.Bootstrap = f.bootstrap
	}
	for _, p := range f.proxies {
		prefix, err := parseRange(p)
		if err != nil {
			return err
		}
		f.cfg.TrustedProxies = append(f.cfg.TrustedProxies, prefix)
	}
	if f.fd != 0 {
		l, err := net.FileListener(os.NewFile(uintptr(f.fd), "listener"))
		if err != nil {
			return fmt.Errorf("--listen-fd %d: %w; the program that starts the node has to leave a listening socket open there", f.fd, err)
		}
		f.cfg.Listener = l
	}
	if f.udpFD != 0 {
		p, err := net.FilePacketConn(os.NewFile(uintptr(f.udpFD), "dht"))
		if err != nil {
			return fmt.Errorf("--udp-fd %d: %w; the program that starts the node has to leave an open UDP socket there", f.udpFD, err)
		}
		f.cfg.Packets = p
	}
	return nil
}

// parseRange reads addresses as 10.0.0.0/8, or one as it is.
func parseRange(s string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p, nil
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Prefix(a.BitLen())
	}
	return netip.Prefix{}, fmt.Errorf("--trusted-proxy %q is not an address or a range of them, such as 127.0.0.1 or 10.0.0.0/8", s)
}

func (f *nodeFlags) serve(ctx context.Context, out io.Writer) error {
	n, err := node.New(f.cfg) //nolint:contextcheck // opening a socket waits for nothing
	if err != nil {
		return err
	}
	d := describe(n)
	f.urls = n.URLs()
	if f.json {
		err = printJSON(out, d)
	} else {
		err = f.print(out, d)
	}
	if err != nil {
		n.Close() //nolint:contextcheck // it takes no context and waits for nothing
		return err
	}
	return n.Serve(ctx)
}

// print says for people what runs where.
func (f *nodeFlags) print(out io.Writer, d description) error {
	others := "dial " + f.urls.String()
	if f.cfg.LAN && len(f.urls) == 0 {
		others = "find this node on the LAN; those elsewhere need --url wss://host"
	} else if len(f.urls) == 0 && !f.cfg.AllowPrivate {
		others = "cannot dial this node; say where they reach it with --url wss://host"
	}
	lines := [][2]string{
		{"page", d.URL + "/"},
		{"clients", d.WS},
		{"others", others},
		{"admin", d.Admin + "/"},
		{"data", f.cfg.Data},
	}
	if d.Admin == "" {
		lines[3][1] = "none"
	}
	if f.cfg.Data == "" {
		lines[4][1] = "none; the next start is a new node"
	}
	if len(f.urls) == 0 && f.cfg.AllowPrivate && !f.cfg.LAN {
		lines = append(lines[:2], lines[3:]...)
	}
	if _, err := fmt.Fprintf(out, "peerserver %s, node %s\n", f.cfg.Version, d.ID); err != nil {
		return err
	}
	for _, l := range lines {
		if _, err := fmt.Fprintf(out, "  %-8s %s\n", l[0], l[1]); err != nil {
			return err
		}
	}
	return nil
}
