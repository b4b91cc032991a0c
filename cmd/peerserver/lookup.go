package main

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/peerservers/peerserver/dhtstore"
	"github.com/peerservers/peerserver/protocol"
)

// lookup asks the DHT which nodes serve an app.
type lookup struct {
	door      string
	secret    string
	bootstrap stringList
	private   bool
	timeout   time.Duration
	json      bool
}

// foundNode is what --json prints of a node.
type foundNode struct {
	Node    protocol.NodeID `json:"node"`
	URLs    []string        `json:"urls"`
	Issued  time.Time       `json:"issued"`
	Expires time.Time       `json:"expires"`
	STUN    uint16          `json:"stun_port,omitempty"`
	TURN    uint16          `json:"turn_port,omitempty"`
	TURNTLS []uint16        `json:"turn_tls_ports,omitempty"`
	Load    int             `json:"load"`
	After   float64         `json:"after_ms"` // of the lookup
}

// servers are the ports of what the node has for connections of peers.
func (n *foundNode) servers() string {
	var list []string
	if n.STUN != 0 {
		list = append(list, fmt.Sprint("STUN ", n.STUN))
	}
	if n.TURN != 0 {
		list = append(list, fmt.Sprint("TURN ", n.TURN))
	}
	for _, p := range n.TURNTLS {
		list = append(list, fmt.Sprint("TURN over TLS ", p))
	}
	if len(list) == 0 {
		return "no STUN"
	}
	return strings.Join(list, ", ")
}

// lookupCost is what --json prints of the lookup itself.
type lookupCost struct {
	Queries    int     `json:"queries"`
	Replies    int     `json:"replies"`
	Rounds     int     `json:"rounds"`
	Candidates int     `json:"candidates"`
	Probed     int     `json:"probed"`
	Took       float64 `json:"took_ms"`
}

func lookupCommand(fs *flag.FlagSet) func(context.Context, streams) error {
	var l lookup
	fs.StringVar(&l.door, "door", "tracker", "`name` of the door that the app's clients use")
	fs.StringVar(&l.secret, "secret", "", "the app's `secret`, if it has one")
	fs.Var(&l.bootstrap, "bootstrap", "where to meet the DHT, `host:port`; may be repeated; mainline's well-known nodes if none is given")
	fs.BoolVar(&l.private, "private", false, "look on private and loopback addresses too, as for a testnet")
	fs.DurationVar(&l.timeout, "timeout", 30*time.Second, "give up after this `time`")
	fs.BoolVar(&l.json, "json", false, "print one line of JSON")
	return func(ctx context.Context, s streams) error {
		if fs.NArg() != 1 {
			return errors.New("name one app: 40 hex digits of an infohash, or the app's name; see \"peerserver lookup --help\"")
		}
		app, err := l.app(fs.Arg(0))
		if err != nil {
			return err
		}
		return l.run(ctx, s, app)
	}
}

// app is the app that an argument names: on the tracker's door an infohash, as
// 40 hex digits or as the 20 characters that Trystero uses, elsewhere any name.
func (l *lookup) app(arg string) (protocol.AppID, error) {
	name := []byte(arg)
	if l.door == "tracker" {
		if raw, err := hex.DecodeString(arg); err == nil && len(raw) == 20 {
			name = raw
		}
		if len(name) != 20 {
			return protocol.AppID{}, fmt.Errorf("%q is no infohash: 40 hex digits or 20 characters; for another door say which with --door", arg)
		}
	}
	return protocol.App(l.door, name, []byte(l.secret)), nil
}

func (l *lookup) run(ctx context.Context, s streams, app protocol.AppID) error {
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	at := ":0"
	if l.private {
		at = "127.0.0.1:0"
	}
	conn, err := new(net.ListenConfig).ListenPacket(ctx, "udp", at)
	if err != nil {
		return err
	}
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return err
	}
	cfg := dhtstore.Config{Conn: conn, Key: key, NoAnnounce: true, Private: l.private}
	if len(l.bootstrap) > 0 {
		cfg.Bootstrap = l.bootstrap
	}
	store, err := dhtstore.Open(cfg)
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	serving, end := context.WithCancel(context.WithoutCancel(ctx))
	go func() { served <- store.Serve(serving) }()
	if !l.json {
		fmt.Fprintln(s.err, "looking for nodes that serve the app ...")
	}
	nodes := []foundNode{}
	cost, err := store.Lookup(ctx, app, func(f dhtstore.Found) {
		r := f.Record
		n := foundNode{
			Node: r.Node, URLs: r.URLs, Issued: time.UnixMilli(r.Seq).UTC(), Expires: r.Expires().UTC(),
			STUN: r.STUNPort, TURN: r.TURNPort, TURNTLS: r.TURNTLS, Load: r.Load, After: milliseconds(f.Progress.Took),
		}
		nodes = append(nodes, n)
		if !l.json {
			fmt.Fprintf(s.out, "%s  %s  %s  record of %s, verified\n", n.Node, strings.Join(n.URLs, " "), n.servers(), n.Issued.Format(time.RFC3339))
		}
	})
	end()
	err = errors.Join(err, <-served)
	if err != nil {
		return fmt.Errorf("%w; is UDP open to the outside? --bootstrap names other nodes of the DHT", err)
	}
	if l.json {
		return printJSON(s.out, map[string]any{"app": app.String(), "nodes": nodes, "lookup": lookupCost{
			cost.Queries, cost.Replies, cost.Rounds, cost.Candidates, cost.Probed, milliseconds(cost.Took),
		}})
	}
	fmt.Fprintf(s.err, "%d nodes; asked %d nodes of the DHT in %d rounds, %d of %d candidates, in %v\n",
		len(nodes), cost.Queries, cost.Rounds, cost.Probed, cost.Candidates, cost.Took.Round(time.Millisecond))
	if len(nodes) == 0 {
		return errors.New("no node serves this app now: a node announces an app while it has peers of it")
	}
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
