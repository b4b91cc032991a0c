package node

import (
	"context"
	"errors"
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
	if len(urls) == 0 && cfg.AllowPrivate {
		urls = ownURLs(n.listener.Addr())
	}
	fixed, err := newFixedFinder(cfg, urls)
	if err != nil {
		return err
	}
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
	return n.finder.dht.SetOwn(protocol.Record{TTL: protocol.RecordTTL, URLs: urls})
}

// serveDHT takes part in the DHT, after the delay that tests ask for.
func (f *finder) serveDHT(ctx context.Context) error {
	sleep(ctx, f.delay)
	return f.dht.Serve(ctx)
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
