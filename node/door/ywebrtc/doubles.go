package ywebrtc

import (
	"encoding/binary"
	"hash/maphash"
	"sync"
	"time"

	"github.com/peerservers/peerserver/node/door/topics"
)

// A client with two sockets announces itself by both of them at once. What it
// says again later is news, as it is at one server: it may have lost the socket
// by which it said so first.
const (
	doublesFor = 3 * time.Second // that a second copy is dropped: more than it takes over the longest link
	// waveOf is how far apart copies of one publish come here. An origin whose
	// copy was dropped and that repeats it later, while the other one does not,
	// is the only one left.
	waveOf     = time.Second
	maxDoubles = 1 << 15 // publishes remembered, and once more
)

// doubles remembers publishes of clients that say who they are, and where each
// came from first: what comes from there passes, as often as it comes, and a copy
// from elsewhere does not.
type doubles struct {
	seed maphash.Seed

	mu         sync.Mutex
	young, old map[uint64]double
	turned     time.Time
	open       map[uint64]struct{} // sockets
}

type double struct {
	origin  uint64
	last    time.Time // when it came from there
	dropped time.Time // when it came from elsewhere since, zero if it did not
}

func newDoubles() doubles {
	return doubles{seed: maphash.MakeSeed(), open: make(map[uint64]struct{})}
}

// opened makes a socket known, and closed forgets it: what it said may be said
// again by the client's next one.
func (d *doubles) opened(socket uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open[socket] = struct{}{}
}

func (d *doubles) closed(socket uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.open, socket)
}

// ofSockets names a publish, to compare the sockets that it came by; ofNodes to
// compare the nodes, once forSubscriber has made it that of one subscriber: only
// who was given the first copy does without the second. The two may be for
// different sockets of a client.
func (d *doubles) ofSockets(topic, from string, payload []byte) uint64 {
	return d.hash('s', topic, from, payload)
}

func (d *doubles) ofNodes(topic, from string, payload []byte) uint64 {
	return d.hash('n', topic, from, payload)
}

func (d *doubles) hash(kind byte, topic, from string, payload []byte) uint64 {
	var h maphash.Hash
	h.SetSeed(d.seed)
	h.WriteByte(kind)
	for _, s := range []string{topic, from} {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(s)))
		h.Write(n[:])
		h.WriteString(s)
	}
	h.Write(payload)
	return h.Sum64()
}

func (d *doubles) forSubscriber(publish uint64, s *topics.Subscription) uint64 {
	return publish ^ maphash.Comparable(d.seed, s)
}

// node is the origin that a NodeID is.
func (d *doubles) node(id []byte) uint64 { return maphash.Bytes(d.seed, id) }

// passSocket says whether a publish that came by a socket is to be passed on.
func (d *doubles) passSocket(publish, socket uint64, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turn(now)
	e, known := d.find(publish)
	_, open := d.open[e.origin]
	return d.pass(publish, e, known && open, socket, now)
}

// passNode says whether one that came from a node is for a subscriber.
func (d *doubles) passNode(publish, node uint64, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turn(now)
	e, known := d.find(publish)
	return d.pass(publish, e, known, node, now)
}

func (d *doubles) find(publish uint64) (double, bool) {
	if e, ok := d.young[publish]; ok {
		return e, true
	}
	e, ok := d.old[publish]
	return e, ok
}

// pass is called with mu held.
func (d *doubles) pass(publish uint64, e double, known bool, origin uint64, now time.Time) bool {
	elsewhere := known && e.origin != origin && now.Sub(e.last) < doublesFor
	if elsewhere && (e.dropped.IsZero() || now.Sub(e.dropped) < waveOf) {
		if e.dropped.IsZero() {
			e.dropped = now
			d.young[publish] = e
		}
		return false
	}
	d.young[publish] = double{origin: origin, last: now}
	return true
}

// turn forgets what is old, and early what is too much.
func (d *doubles) turn(now time.Time) {
	switch age := now.Sub(d.turned); {
	case age >= 2*doublesFor:
		d.old = nil
	case age >= doublesFor || len(d.young) >= maxDoubles:
		d.old = d.young
	default:
		return
	}
	d.young, d.turned = make(map[uint64]double), now
}
