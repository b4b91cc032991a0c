package dhtstore

import (
	"math/rand/v2"
	"net/netip"
	"time"
)

// The peer store.
const (
	maxInfohashes  = 2000
	maxSwarm       = 500 // peers of one infohash
	peerTTL        = 45 * time.Minute
	maxPortsPerNet = 8 // of one address in one swarm; more would crowd others out
)

// peerStore keeps who announced what. Owned by the responder.
type peerStore struct{ swarms *lru[[20]byte, []storedPeer] }

// storedPeer is in a list that is in order of time, oldest first.
type storedPeer struct {
	addr  netip.AddrPort
	until time.Time
}

func newPeerStore() *peerStore {
	return &peerStore{newLRU[[20]byte, []storedPeer](maxInfohashes, peerTTL)}
}

// add stores a peer. Several ports of one address are several peers: nodes
// behind one NAT, or on one machine.
func (s *peerStore) add(infohash [20]byte, addr netip.AddrPort, shared bool, owner netip.Addr, now time.Time) {
	swarm := s.swarms.get(infohash, now)
	if swarm == nil {
		swarm = s.swarms.put(infohash, nil, owner, now)
	}
	s.swarms.extend(infohash, now)
	kept := (*swarm)[:0]
	ports := 0
	for _, p := range *swarm {
		if p.addr != addr && now.Before(p.until) {
			kept = append(kept, p)
			if network(p.addr.Addr()) == network(addr.Addr()) {
				ports++
			}
		}
	}
	switch {
	case !shared && ports >= maxPortsPerNet:
		kept = without(kept, func(p storedPeer) bool { return network(p.addr.Addr()) == network(addr.Addr()) })
	case len(kept) >= maxSwarm:
		kept = without(kept, func(storedPeer) bool { return true })
	}
	*swarm = append(kept, storedPeer{addr, now.Add(peerTTL)})
}

// without removes the first, which is the oldest, that fits.
func without(peers []storedPeer, fits func(storedPeer) bool) []storedPeer {
	for i, p := range peers {
		if fits(p) {
			return append(peers[:i], peers[i+1:]...)
		}
	}
	return peers
}

// get picks at most n peers at random, of one family: no IPv6 data is in the
// IPv4 DHT, nor the other way round (BEP 32).
func (s *peerStore) get(infohash [20]byte, v6 bool, n int, now time.Time) (picked []netip.AddrPort) {
	swarm := s.swarms.get(infohash, now)
	if swarm == nil {
		return nil
	}
	for _, p := range *swarm {
		if p.addr.Addr().Is6() == v6 && now.Before(p.until) {
			picked = append(picked, p.addr)
		}
	}
	if len(picked) > n {
		rand.Shuffle(len(picked), func(i, j int) { picked[i], picked[j] = picked[j], picked[i] })
		picked = picked[:n]
	}
	return picked
}
