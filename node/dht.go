package node

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/peerservers/peerserver/dhtstore"
	"github.com/peerservers/peerserver/protocol"
)

// finder is the node's relay.Finder: a list of URLs, and the DHT unless the
// node is without.
type finder struct {
	fixed *fixedFinder
	dht   *dhtstore.Store // nil: without
	delay time.Duration
}

// openFinder makes the finder; the DHT is on the node's port number, over UDP.
func (n *Node) openFinder() error {
	cfg := &n.cfg
	urls := cfg.URLs
	if len(urls) == 0 && cfg.AllowPrivate && n.certs == nil {
		urls = ownURLs(n.listener.Addr())
	}
	fixed, err := newFixedFinder(cfg, urls)
	if err != nil {
		return err
	}
	fixed.fill = n.fill
	n.finder = &finder{fixed: fixed, delay: cfg.PeerDelay}
	if cfg.NoDHT {
		return nil
	}
	if n.packets == nil {
		return errors.New("a node with a listener of its own needs a socket for the DHT too, or NoDHT")
	}
	n.finder.dht, err = dhtstore.Open(dhtstore.Config{
		Conn: n.packets, Key: cfg.Key, Dir: cfg.Data, Bootstrap: cfg.Bootstrap,
		NoAnnounce: cfg.NoAnnounce, Private: cfg.AllowPrivate, Log: cfg.Log,
	})
	if err != nil || len(urls) == 0 {
		return err
	}
	return n.setRecord(urls)
}

// setRecord changes what the node's record says: its URLs, which may be none, and
// what it offers as that is now.
func (n *Node) setRecord(urls []string) error {
	n.recording.Lock()
	defer n.recording.Unlock()
	return n.putRecord(urls)
}

// renewRecord is setRecord with the URLs that it has.
func (n *Node) renewRecord() error {
	n.recording.Lock()
	defer n.recording.Unlock()
	return n.putRecord(n.finder.fixed.ownURLs())
}

// putRecord is called with recording held.
func (n *Node) putRecord(urls []string) error {
	n.finder.fixed.setURLs(urls)
	if n.finder.dht == nil {
		return nil
	}
	own := protocol.Record{TTL: protocol.RecordTTL, URLs: urls}
	n.fill(&own)
	return n.finder.dht.SetOwn(own)
}

// fill says in a record what the node offers.
func (n *Node) fill(r *protocol.Record) {
	r.STUNPort, r.TURNPort, r.TURNTLS = n.recordPorts()
	r.Load = int(n.load.Load())
}

// keepProven is how often the proven addresses are given to the disk.
const keepProven = time.Minute

// serveDHT takes part in the DHT, after the delay that tests ask for.
func (n *Node) serveDHT(ctx context.Context) error {
	sleep(ctx, n.finder.delay)
	var keeping sync.WaitGroup
	defer keeping.Wait()
	ctx, end := context.WithCancel(ctx)
	defer end()
	keeping.Go(func() {
		for sleep(ctx, keepProven) {
			n.finder.dht.SetProven(n.relay.Proven())
		}
	})
	return n.finder.dht.Serve(ctx)
}

// proven are the addresses that an earlier run of the node has reached.
func (f *finder) proven() []string {
	if f.dht == nil {
		return nil
	}
	return f.dht.Proven()
}

// Want implements relay.Finder.
func (f *finder) Want(app protocol.AppID, found func(*protocol.Record)) {
	f.fixed.Want(app, found)
	if f.dht != nil {
		f.dht.Want(app, found)
	}
}

// Drop implements relay.Finder.
func (f *finder) Drop(app protocol.AppID) {
	f.fixed.Drop(app)
	if f.dht != nil {
		f.dht.Drop(app)
	}
}

// Own implements relay.Finder.
func (f *finder) Own() *protocol.SignedRecord {
	if f.dht != nil {
		return f.dht.Own()
	}
	return f.fixed.Own()
}

// own is the node's record, nil while it cannot be dialled.
func (f *finder) own() *protocol.Record {
	signed := f.Own()
	if signed == nil {
		return nil
	}
	r, err := signed.Verify(protocol.NodeID{}, time.Now())
	if err != nil {
		return nil
	}
	return r
}

// Check implements relay.Finder.
func (f *finder) Check(records []*protocol.SignedRecord, found func(*protocol.Record)) {
	if f.dht != nil {
		f.dht.Check(records, found)
		return
	}
	f.fixed.Check(records, found)
}

// known is how many other nodes' records are at hand.
func (f *finder) known() int {
	n := f.fixed.known()
	if f.dht != nil {
		n = max(n, f.dht.Stats().Known)
	}
	return n
}

// DHTStats are totals of the node's part in the DHT.
type DHTStats struct {
	Nodes     int     `json:"nodes"`     // of the DHT, in the routing tables
	Known     int     `json:"known"`     // nodes like this one, found at any time
	Apps      int     `json:"apps"`      // with peers here
	Announced int     `json:"announced"` // of them, that others can find
	Waiting   int     `json:"waiting"`   // of them, that they cannot yet
	Published bool    `json:"published"` // the node's record is in the DHT
	Packets   float64 `json:"packets_per_second"`
}

func (f *finder) stats() *DHTStats {
	if f.dht == nil {
		return nil
	}
	s := f.dht.Stats()
	return &DHTStats{
		Nodes: s.Nodes4 + s.Nodes6, Known: s.Known, Apps: s.Apps, Announced: s.Announced, Waiting: s.Waiting,
		Published: s.Published, Packets: s.PacketsPerSecond,
	}
}
