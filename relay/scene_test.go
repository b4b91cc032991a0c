package relay

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// scene is some nodes in memory, in a bubble of synctest.
type scene struct {
	t     *testing.T
	net   *memNet
	nodes []*tnode

	// configure, if not nil, changes the settings of a node that starts.
	configure func(nd *tnode, cfg *Config)
}

// tnode is one node of a scene.
type tnode struct {
	sc     *scene
	i      int
	url    string
	r      *Relay
	finder *fixedFinder
	stop   func()
}

// play runs f with n nodes that do not know each other yet.
func play(t *testing.T, n int, f func(sc *scene)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		sc := &scene{t: t, net: newMemNet()}
		defer sc.net.close()
		defer func() {
			for _, nd := range sc.nodes {
				nd.stop()
			}
		}()
		for range n {
			sc.start()
		}
		f(sc)
	})
}

// fewer is n, or what is enough for the race detector: it makes a handshake ten
// times as dear, and what meets what does not change with the number.
func fewer(n, underRace int) int {
	if raceDetector {
		return underRace
	}
	return n
}

func nodeURL(i int) string { return fmt.Sprintf("ws://10.0.%d.%d:8787", i/200, i%200+1) }

func (sc *scene) start() *tnode {
	nd := &tnode{sc: sc, i: len(sc.nodes), url: nodeURL(len(sc.nodes))}
	sc.nodes = append(sc.nodes, nd)
	nd.run()
	return nd
}

func testKeyOf(nd *tnode) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(nd.url))
	return ed25519.NewKeyFromSeed(seed[:])
}

// link is the node's to another one, nil when there is none.
func (nd *tnode) link(other *tnode) *link {
	nd.r.mu.Lock()
	defer nd.r.mu.Unlock()
	return nd.r.links[other.r.ID()]
}

// run starts the node, with the same key each time.
func (nd *tnode) run() {
	sc := nd.sc
	key := testKeyOf(nd)
	rec := &protocol.Record{Seq: time.Now().UnixMilli(), TTL: protocol.RecordTTL, URLs: []string{nd.url}}
	if err := protocol.SignRecord(key, rec); err != nil {
		sc.t.Fatal(err)
	}
	nd.finder = &fixedFinder{own: rec, wanted: make(map[protocol.AppID]func(*protocol.Record))}
	cfg := Config{Key: key, Finder: nd.finder, Dialer: sc.net.dialer(nd.url), AllowPrivate: true, Seed: uint64(nd.i + 1)}
	if sc.configure != nil {
		sc.configure(nd, &cfg)
	}
	r, err := New(cfg)
	if err != nil {
		sc.t.Fatal(err)
	}
	nd.r = r
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { r.Serve(ctx) })
	unlisten := sc.net.listen(nd.url, func(c Conn) {
		r.handles <- struct{}{}
		r.accept(ctx, c)
	})
	time.Sleep(time.Millisecond)
	nd.stop = sync.OnceFunc(func() {
		unlisten()
		cancel()
		done.Wait()
	})
}

// kill ends the node without a goodbye, as a power cut does.
func (nd *tnode) kill() {
	for _, o := range nd.sc.nodes {
		if o != nd {
			nd.sc.net.cut(nd.url, o.url)
		}
	}
	nd.stop()
	for _, o := range nd.sc.nodes {
		if o != nd {
			nd.sc.net.heal(nd.url, o.url)
		}
	}
}

// meet makes nodes known to each other.
func (sc *scene) meet(nodes ...*tnode) {
	for _, a := range nodes {
		for _, b := range nodes {
			if a != b {
				a.finder.know(b.finder.own)
			}
		}
	}
}

func (sc *scene) wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// fixedFinder knows what it is told.
type fixedFinder struct {
	own    *protocol.Record
	hidden bool // cannot be dialled
	mu     sync.Mutex
	known  []*protocol.Record
	wanted map[protocol.AppID]func(*protocol.Record)
}

func (f *fixedFinder) know(rec *protocol.Record) {
	f.mu.Lock()
	f.known = append(f.known, rec)
	var founds []func(*protocol.Record)
	for _, found := range f.wanted {
		founds = append(founds, found)
	}
	f.mu.Unlock()
	for _, found := range founds {
		found(rec)
	}
}

func (f *fixedFinder) Want(app protocol.AppID, found func(*protocol.Record)) {
	f.mu.Lock()
	f.wanted[app] = found
	known := slices.Clone(f.known)
	f.mu.Unlock()
	for _, rec := range known {
		found(rec)
	}
}

func (f *fixedFinder) Drop(app protocol.AppID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.wanted, app)
}

func (f *fixedFinder) Own() *protocol.SignedRecord {
	if f.hidden {
		return nil
	}
	return f.own.Signed
}

func (f *fixedFinder) Check(records []*protocol.SignedRecord, found func(*protocol.Record)) {
	for _, s := range records {
		if rec, err := s.Verify(protocol.NodeID{}, time.Now()); err == nil {
			found(rec)
		}
	}
}

// client is a member that remembers what it got, with the time since it was
// made.
type client struct {
	t      *testing.T
	id     string
	m      *Member
	nd     *tnode
	start  time.Time
	serial int
	deaf   bool // refuses all

	mu     sync.Mutex
	events []got
}

type got struct {
	Event
	at time.Duration
}

func (c *client) Deliver(e *Event) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.deaf {
		return false
	}
	cp := *e
	cp.Ref, cp.Payload = slices.Clone(e.Ref), slices.Clone(e.Payload)
	c.events = append(c.events, got{cp, time.Since(c.start)})
	return true
}

// of lists the events of a kind, from whom "" for all.
func (c *client) of(k Kind, from string) []got {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []got
	for _, e := range c.events {
		if e.Kind == k && (from == "" || e.From == from) {
			list = append(list, e)
		}
	}
	return list
}

var testApp = protocol.App("test", []byte("app"), nil)

// join makes a client a member that takes offers; more sets what else.
func (nd *tnode) join(id string, more ...func(*Joining)) *client {
	nd.sc.t.Helper()
	c := &client{t: nd.sc.t, id: id, nd: nd, start: time.Now()}
	j := Joining{ID: id, Sink: c, TakesOffers: true}
	for _, f := range more {
		f(&j)
	}
	m, err := nd.r.Join(testApp, j)
	if err != nil {
		nd.sc.t.Fatal(err)
	}
	c.m = m
	return c
}

// announce makes n offers with ids of their own.
func (c *client) announce(n int) {
	var offers []Offer
	for range n {
		c.serial++
		offers = append(offers, Offer{ID: fmt.Appendf(nil, "%s-%d", c.id, c.serial), Payload: fmt.Appendf(nil, "sdp of %s %d", c.id, c.serial)})
	}
	c.m.Offer(offers)
}

// answer answers an offer that was got.
func (c *client) answer(o got) protocol.Code {
	return c.m.Send(Message{Kind: KindAnswer, To: o.From, Ref: o.Ref, Payload: []byte("answer to " + string(o.Ref))})
}

func (sc *scene) logLinks() {
	for _, nd := range sc.nodes {
		sc.t.Logf("node %d: %+v", nd.i, nd.r.Stats())
	}
}
