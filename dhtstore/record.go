package dhtstore

import (
	"crypto/ed25519"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// ownRecord is what this node says of itself, signed anew whenever it changes
// or grows old.
type ownRecord struct {
	key ed25519.PrivateKey

	mu      sync.Mutex
	says    protocol.Record  // what is signed; no URLs: nothing is
	signed  *protocol.Record // nil: none
	seq     int64            // the last one used
	version int              // of what it says, from 1
	changed time.Time        // when it said something else the last time
}

// set changes what the record says. It says whether that is something else, and
// an error if it cannot be signed.
func (o *ownRecord) set(r protocol.Record, now time.Time) (changed bool, err error) {
	if len(r.URLs) > protocol.MaxRecordURLs {
		return false, fmt.Errorf("%d own URLs are over %d", len(r.URLs), protocol.MaxRecordURLs)
	}
	for _, u := range r.URLs {
		if _, err := protocol.ParseLinkURL(u); err != nil {
			return false, fmt.Errorf("own URL %q: %w", u, err)
		}
	}
	if r.Load < 0 || r.Load > 3 {
		return false, fmt.Errorf("load class %d is not within 0 to 3", r.Load)
	}
	if r.TTL <= 0 || r.TTL > protocol.RecordTTL {
		r.TTL = protocol.RecordTTL
	}
	r.URLs = slices.Clone(r.URLs)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.version > 0 && slices.Equal(o.says.URLs, r.URLs) && o.says.TTL == r.TTL && o.says.Load == r.Load &&
		o.says.STUNPort == r.STUNPort && o.says.TURNPort == r.TURNPort && slices.Equal(o.says.TURNTLS, r.TURNTLS) {
		return false, nil
	}
	before := o.says
	o.says = r
	if _, err := o.sign(now); err != nil {
		o.says = before
		return false, err
	}
	o.version++
	o.changed = now
	return true, nil
}

// sign gives the record a new sequence. Called with mu held.
func (o *ownRecord) sign(now time.Time) (*protocol.Record, error) {
	if len(o.says.URLs) == 0 {
		o.signed = nil
		return nil, nil
	}
	r := o.says
	r.Seq = max(o.seq+1, now.UnixMilli())
	if err := protocol.SignRecord(o.key, &r); err != nil {
		return nil, err
	}
	o.seq, o.signed = r.Seq, &r
	return &r, nil
}

// current is the record now, nil while the node cannot be dialled.
func (o *ownRecord) current(now time.Time) *protocol.Record {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.signed != nil && now.Sub(time.UnixMilli(o.signed.Seq)) > o.signed.TTL/2 {
		_, _ = o.sign(now) // it could be signed before
	}
	return o.signed
}

// renew is the record with a sequence that was never published, and the
// version of what it says.
func (o *ownRecord) renew(now time.Time) (*protocol.Record, int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, _ = o.sign(now)
	return o.signed, o.version
}

// last is the sequence to be kept on the disk.
func (o *ownRecord) last() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.seq
}

// overtake has the next sequence be above one that we do not know to have
// used: our data was lost, or the clock went back. One that the others take for
// future is not followed.
func (o *ownRecord) overtake(seq int64, now time.Time) {
	if seq > now.Add(protocol.RecordAhead).UnixMilli() {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.seq = max(o.seq, seq)
}

func (o *ownRecord) state() (version int, changed time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.version, o.changed
}

// Own is the node's own signed record, nil while it has no URLs. It is part of
// relay.Finder.
func (s *Store) Own() *protocol.SignedRecord {
	if r := s.own.current(time.Now()); r != nil {
		return r.Signed
	}
	return nil
}

// SetOwn says where and what this node is: URLs, ports, load and TTL of r, the
// rest is filled in. Own and the answers to other nodes have it at once, the
// DHT after 10 s without another change, and no sooner than 60 s after the last
// one. Without URLs nothing is announced or published.
func (s *Store) SetOwn(r protocol.Record) error {
	now := time.Now()
	before := s.own.current(now) != nil
	changed, err := s.own.set(r, now)
	if err != nil || !changed {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.publishers {
		s.plan(p, now)
	}
	if !before && len(r.URLs) > 0 {
		s.announceAll(now)
	}
	s.signal()
	return nil
}

// later is d or up to a fifth longer.
func later(d time.Duration) time.Duration { return d + rand.N(d/5) }

// jitter is d up to a fifth longer or shorter, so that nodes do not go in step.
func jitter(d time.Duration) time.Duration { return d - d/5 + rand.N(2*d/5) }
