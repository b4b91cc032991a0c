package dhtstore

import (
	"bytes"
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// Times of publishing the own record.
const (
	publishEvery = 50 * time.Minute
	publishQuiet = 10 * time.Second // without another change
	publishApart = time.Minute      // two publishes of changes
	retryPublish = 15 * time.Second // and twice as long after each further failure
	retryMost    = 10 * time.Minute
	publishAcks  = 4 // nodes that have to have it, if there are as many
)

// publisher keeps the own record in one DHT, as a BEP 44 item.
type publisher struct {
	side side
	task task

	// Guarded by Store.mu.
	last    time.Time // when it was published, or was tried to be; zero: never
	version int       // of what the record said then
	fails   int       // in a row
	dirty   time.Time // since when the record says something else; zero: it does not
	busy    bool      // publishes; what is next, it decides then
}

// plan decides when to publish next. Called with s.mu held.
func (s *Store) plan(p *publisher, now time.Time) {
	if p.busy {
		return
	}
	version, changed := s.own.state()
	if s.cfg.NoAnnounce || s.own.current(now) == nil {
		s.schedule.remove(&p.task)
		return
	}
	var due time.Time
	switch {
	case p.fails > 0:
		due = p.last.Add(min(retryPublish<<min(p.fails-1, 10), retryMost))
	case version == p.version:
		p.dirty = time.Time{}
		due = p.last.Add(jitter(publishEvery))
		if s.young(p.last) {
			due = p.last.Add(later(settled))
		}
	default:
		if p.dirty.IsZero() {
			p.dirty = changed
		}
		due = changed.Add(publishQuiet)
		if most := p.dirty.Add(publishApart); due.After(most) {
			due = most
		}
		if !p.last.IsZero() && due.Before(p.last.Add(publishApart)) {
			due = p.last.Add(publishApart)
		}
	}
	s.schedule.set(&p.task, due)
}

// publish is a publisher's turn.
func (s *Store) publish(ctx context.Context, p *publisher) (packets int) {
	start := time.Now()
	r, version := s.own.renew(start)
	if r == nil {
		return 0
	}
	s.mu.Lock()
	p.busy = true
	s.mu.Unlock()
	stored, nodes := 0, 0
	if err := s.saveSeq(); err != nil {
		s.log.Warn("own record is not published: its sequence cannot be kept", "err", err)
	} else {
		stored, nodes, packets = s.store(ctx, p.side, r)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p.last, p.busy = start, false
	if stored > 0 && stored >= min(publishAcks, nodes) {
		p.fails, p.version = 0, version
		s.log.Debug("own record published", "v6", p.side.v6, "nodes", stored)
	} else if p.fails++; ctx.Err() == nil {
		s.log.Debug("own record not published, trying again", "v6", p.side.v6, "nodes", nodes, "stored", stored)
	}
	s.plan(p, time.Now())
	return packets
}

// saveSeq has the last sequence on the disk before anybody sees it.
func (s *Store) saveSeq() error {
	if s.disk == nil {
		return nil
	}
	return s.disk.saveSeq(s.self, s.own.last())
}

// store puts the record to the nodes closest to its key, and reads it back:
// stored counts those that have it.
func (s *Store) store(ctx context.Context, d side, r *protocol.Record) (stored, nodes, packets int) {
	i := recordItem(r.Signed)
	target := i.target()
	steps, stats := s.survey(ctx, d, target, func(ctx context.Context, addr netip.AddrPort) (*reply, error) {
		a, err := d.srv.get(ctx, addr, target, 0)
		if err == nil {
			s.overtake(r, a)
		}
		return a, err
	})
	var acks, have atomic.Int64
	each(steps, func(to step) {
		if to.Token == "" || d.srv.put(ctx, to.Addr, i, to.Token) != nil {
			return
		}
		acks.Add(1)
		if a, err := d.srv.get(ctx, to.Addr, target, 0); err == nil {
			if a.Item != nil && a.Item.Key == i.Key && a.Item.Seq == i.Seq && bytes.Equal(a.Item.V, i.V) {
				have.Add(1)
			}
			s.overtake(r, a)
		}
	})
	return int(have.Load()), len(steps), stats.Queries + len(steps) + int(acks.Load())
}

// overtake looks whether a node has a newer record of ours than we do.
func (s *Store) overtake(r *protocol.Record, a *reply) {
	if a.Item == nil || a.Item.Seq <= r.Seq {
		return
	}
	now := time.Now()
	if found, err := itemRecord(a.Item).Verify(s.self, now); err == nil {
		s.own.overtake(found.Seq, now)
	}
}

// recordItem is a record as BEP 44 has it, and itemRecord the other way round.
func recordItem(r *protocol.SignedRecord) *item {
	return &item{Key: [32]byte(r.Key), Salt: []byte(protocol.RecordSalt), Seq: r.Seq, Sig: [64]byte(r.Signature), V: r.Value}
}

func itemRecord(i *item) *protocol.SignedRecord {
	return &protocol.SignedRecord{Key: i.Key[:], Seq: i.Seq, Value: i.V, Signature: i.Sig[:]}
}

// each calls f for all steps at once, and waits.
func each(steps []step, f func(step)) {
	var wg sync.WaitGroup
	for _, st := range steps {
		wg.Go(func() { f(st) })
	}
	wg.Wait()
}
