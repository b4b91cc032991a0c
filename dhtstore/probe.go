package dhtstore

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

const (
	askers     = 16   // errands at a time
	maxErrands = 4096 // waiting
	maxPlaces  = 6    // where one node is looked for
)

// flight is a question that is under way, for all who want to know.
type flight struct {
	done   chan struct{}
	record *protocol.Record
	err    error
}

// ask asks an address for its node's record, unless it has answered lately, and
// verifies what comes: a record of whom, is for the caller to see.
func (s *Store) ask(ctx context.Context, addr netip.AddrPort) (*protocol.Record, error) {
	if r := s.cache.fresh(addr, time.Now()); r != nil {
		return r, nil
	}
	s.mu.Lock()
	f := s.flights[addr]
	if f == nil {
		f = &flight{done: make(chan struct{})}
		s.flights[addr] = f
		s.mu.Unlock()
		f.record, f.err = s.askNow(ctx, addr)
		s.mu.Lock()
		delete(s.flights, addr)
		s.mu.Unlock()
		close(f.done)
		return f.record, f.err
	}
	s.mu.Unlock()
	select {
	case <-f.done:
		return f.record, f.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// errSelf is that we have asked ourselves.
var errSelf = errors.New("that is this node")

func (s *Store) askNow(ctx context.Context, addr netip.AddrPort) (*protocol.Record, error) {
	d, ok := s.sideOf(addr.Addr().Is6())
	if !ok {
		return nil, errFamily
	}
	signed, err := d.srv.record(ctx, addr)
	if ctx.Err() != nil {
		return nil, ctx.Err() // which is not the address's fault
	}
	var r *protocol.Record
	if err == nil {
		r, err = signed.Verify(protocol.NodeID{}, time.Now())
	}
	now := time.Now()
	switch {
	case err != nil:
	case r.Node == s.self:
		s.cache.ours(addr, now)
		return nil, errSelf
	case !s.cache.answer(r, addr, now):
		err = errOlder
	}
	if err != nil {
		s.cache.fail(addr, now)
		return nil, err
	}
	return r, nil
}

// errOlder is that a later record of the same node has been seen.
var errOlder = protocol.Errorf(protocol.CodeStale, "record is older than one seen before")

// errand is to find out about one node: one of which a record was handed over,
// or one that the cache knows.
type errand struct {
	node   protocol.NodeID
	signed *protocol.SignedRecord // nil: what the cache knows
	found  func(r *protocol.Record, answered bool)
}

// send has an errand run, unless there are too many.
func (s *Store) send(e errand) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.errands) < maxErrands {
		s.errands = append(s.errands, e)
		s.signalErrand()
	}
}

// signalErrand wakes one who runs errands.
func (s *Store) signalErrand() {
	select {
	case s.errandWake <- struct{}{}:
	default:
	}
}

// runErrands is one of those who do, until ctx ends.
func (s *Store) runErrands(ctx context.Context) {
	for ctx.Err() == nil {
		s.mu.Lock()
		if len(s.errands) == 0 {
			s.mu.Unlock()
			select {
			case <-s.errandWake:
			case <-ctx.Done():
			}
			continue
		}
		e := s.errands[0]
		s.errands[0] = errand{}
		if s.errands = s.errands[1:]; len(s.errands) > 0 {
			s.signalErrand()
		}
		s.mu.Unlock()
		if e.signed == nil {
			s.recall(ctx, e)
		} else {
			s.check(ctx, e)
		}
	}
}

// recall hands out what the cache knows of a node, at once, and asks the node
// where it was if that is long ago.
func (s *Store) recall(ctx context.Context, e errand) {
	known, addr, lately := s.cache.lookUp(e.node, time.Now())
	if known != nil {
		e.found(known, lately)
	}
	if known != nil && lately || !addr.IsValid() || !s.mayAsk(addr, time.Now()) {
		return
	}
	if r, err := s.ask(ctx, addr); err == nil && r.Node == e.node {
		e.found(r, true)
	}
}

// Check verifies records that another node handed over, and asks each node
// whether it is there: where it was last, or at the addresses of its URLs, at
// their port and at 8787. It is part of relay.Finder.
func (s *Store) Check(records []*protocol.SignedRecord, found func(*protocol.Record)) {
	for _, r := range records[:min(len(records), protocol.MaxNodesRecords)] {
		if r != nil {
			s.send(errand{signed: r, found: func(r *protocol.Record, _ bool) { found(r) }})
		}
	}
}

func (s *Store) check(ctx context.Context, e errand) {
	now := time.Now()
	r, err := e.signed.Verify(protocol.NodeID{}, now)
	if err != nil || r.Node == s.self {
		return
	}
	known, addr, lately := s.cache.lookUp(r.Node, now)
	if known != nil && lately {
		e.found(known, true)
		return
	}
	if known != nil && r.Seq < known.Seq {
		r = known
	}
	for _, place := range s.places(ctx, r, addr) {
		if !s.mayAsk(place, time.Now()) {
			continue
		}
		if a, err := s.ask(ctx, place); err == nil && a.Node == r.Node {
			e.found(a, true)
			return
		}
	}
}

// mayAsk says whether an address is one to send to: none of our own network
// unless that is all there is, none that failed lately.
func (s *Store) mayAsk(addr netip.AddrPort, now time.Time) bool {
	return usable(addr) && (s.cfg.Private || !private(addr.Addr())) && !s.cache.avoid(addr, now)
}

// places are where a node may answer over UDP. A node has one port, but one
// that is behind a proxy is known by the proxy's.
func (s *Store) places(ctx context.Context, r *protocol.Record, last netip.AddrPort) (all []netip.AddrPort) {
	add := func(a netip.AddrPort) {
		if a.IsValid() && !slices.Contains(all, a) && len(all) < maxPlaces {
			all = append(all, a)
		}
	}
	add(last)
	for _, u := range r.URLs {
		l, err := protocol.ParseLinkURL(u)
		if err != nil {
			continue
		}
		ports := []uint16{l.Port, protocol.DefaultPort}
		if l.Port < 1024 {
			slices.Reverse(ports)
		}
		for _, d := range s.sides {
			addrs, err := lookUp(ctx, net.JoinHostPort(l.Host, strconv.Itoa(int(l.Port))), d.v6)
			if err != nil {
				continue
			}
			for _, a := range addrs[:min(len(addrs), 2)] {
				for _, port := range ports {
					add(netip.AddrPortFrom(a.Addr(), port))
				}
			}
		}
	}
	return all
}
