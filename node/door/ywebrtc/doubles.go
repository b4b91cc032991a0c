package ywebrtc

import (
	"encoding/binary"
	"hash/maphash"
	"sync"
	"time"
)

// A client with two sockets says everything that is for all by both of them.
const (
	doublesFor = 10 * time.Second // that a second copy is dropped
	// waveOf is how far apart copies of one publish come here. An origin whose
	// copy was dropped and that repeats it later, while the other one does not,
	// is the only one left.
	waveOf     = time.Second
	maxDoubles = 1 << 15 // publishes remembered, and once more
)

// doubles remembers publishes of clients that say who they are, and where each
// came from first: what comes from there passes, as often as it comes, and a copy
// from elsewhere does not. It is asked once for each subscriber, so to ask again
// changes nothing.
type doubles struct {
	seed maphash.Seed

	mu         sync.Mutex
	young, old map[uint64]double
	turned     time.Time
}

type double struct {
	origin  uint64
	last    time.Time // when it came from there
	dropped time.Time // when it came from elsewhere since, zero if it did not
}

func newDoubles() doubles { return doubles{seed: maphash.MakeSeed()} }

// ofSockets names a publish, to compare the sockets that it came by; ofNodes to
// compare the nodes.
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

// node is the origin that a NodeID is.
func (d *doubles) node(id []byte) uint64 { return maphash.Bytes(d.seed, id) }

// pass says whether a publish is to be passed on.
func (d *doubles) pass(publish, origin uint64) bool {
	return d.passTo(publish, origin, time.Time{}, time.Now())
}

// passTo says whether a publish is for a subscriber that is there since then.
func (d *doubles) passTo(publish, origin uint64, since, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turn(now)
	e, known := d.young[publish]
	if !known {
		e, known = d.old[publish]
	}
	switch {
	case !known || now.Sub(e.last) >= doublesFor:
	case e.origin == origin:
	case since.After(e.last):
		return true // it did not get the first one
	case !e.dropped.IsZero() && now.Sub(e.dropped) >= waveOf:
	default:
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
