package dhtstore

import (
	"net/netip"
	"sync"
	"time"
)

const (
	maxVotes = 32
	minVotes = 5
	voteTTL  = time.Hour
)

// votes is what others say our address is (BEP 42). One network has one vote,
// the last it gave.
type votes struct {
	mu sync.Mutex
	by *lru[netip.Prefix, netip.AddrPort]
}

func newVotes() *votes { return &votes{by: newLRU[netip.Prefix, netip.AddrPort](maxVotes, voteTTL)} }

// add takes nothing from or about addresses that mean something in one network
// only: those there see us behind another address.
func (v *votes) add(voter netip.Addr, us netip.AddrPort) {
	if private(voter) || private(us.Addr()) {
		return
	}
	bits := 24
	if voter.Is6() {
		bits = 48
	}
	from, _ := voter.WithZone("").Prefix(bits)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.by.put(from, us, netip.Addr{}, time.Now())
}

// result is the address that two thirds of at least 5 networks see, with the
// port that most of them see; not valid if there is none.
func (v *votes) result() (us netip.AddrPort) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.by.sweep(time.Now())
	addrs, ports := map[netip.Addr]int{}, map[netip.AddrPort]int{}
	for e := v.by.order.Front(); e != nil; e = e.Next() {
		said := e.Value.(*lruEntry[netip.Prefix, netip.AddrPort]).value
		addrs[said.Addr()]++
		ports[said]++
	}
	most := 0
	for p, n := range ports {
		if total := v.by.len(); total >= minVotes && 3*addrs[p.Addr()] >= 2*total && n > most {
			us, most = p, n
		}
	}
	return us
}
