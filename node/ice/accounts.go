package ice

import (
	"net/netip"
	"sync"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

const (
	maxIssuers    = 512             // remembered: as many as a node has links
	maxPeers      = 16_384          // of one issuer
	peersOfOthers = 4096            // the same, of another node
	shareOfIssuer = 4               // another node's peers have a quarter of what there is
	shareOfOthers = 2               // and all other nodes' together a half
	newBurst      = 2 * time.Minute // worth of new allocations can be had at once
)

// accounts hold what each peer, issuer and client address uses.
type accounts struct {
	quota Quota
	node  protocol.NodeID // the issuer of its own peers' credentials
	all   meter

	mu        sync.Mutex
	total     int // allocations
	others    int // of them, of other nodes' peers
	peers     int // that have an allocation
	issuers   map[protocol.NodeID]*issuer
	addresses map[netip.Addr]int // allocations; only those that have one
}

// issuer is a node that issues credentials.
type issuer struct {
	meter meter

	// Guarded by accounts.mu.
	allocations int
	peers       map[[16]byte]*account
}

// account is of one peer. It stays when the peer has gone, since the bytes of a
// day are counted in it, until there are too many.
type account struct {
	issuer *issuer
	meter  meter

	// Guarded by accounts.mu.
	allocations int
	pace        bucket
}

// lease is the right to one allocation.
type lease struct {
	accounts *accounts
	account  *account
	foreign  bool
	address  netip.Addr // of the client; invalid: not counted
}

func newAccounts(q Quota, node protocol.NodeID) *accounts {
	return &accounts{
		quota: q, node: node, all: meter{rate: q.NodeRate, perDay: q.NodeDay},
		issuers: make(map[protocol.NodeID]*issuer), addresses: make(map[netip.Addr]int),
	}
}

// acquire takes an allocation for a peer whose credentials have been checked. The
// address is that of its client, invalid if it is not to be counted.
func (a *accounts) acquire(peer client, address netip.Addr, now time.Time) (*lease, reason) {
	foreign := peer.issuer != a.node
	a.mu.Lock()
	defer a.mu.Unlock()
	acc := a.account(peer, foreign)
	switch q := &a.quota; {
	case a.total >= q.Allocations:
		return nil, overAll
	case acc.meter.spent(now) || foreign && acc.issuer.meter.spent(now) || a.all.spent(now):
		return nil, overDay // it would relay nothing, and the client would not look for another
	case foreign && (acc.issuer.allocations >= share(q.Allocations, shareOfIssuer) || a.others >= share(q.Allocations, shareOfOthers)):
		return nil, overIssuer
	case q.PeerAllocations > 0 && acc.allocations >= q.PeerAllocations:
		return nil, overPeer
	case q.AddressAllocations > 0 && address.IsValid() && a.addresses[address] >= q.AddressAllocations:
		return nil, overAddress
	case q.PeerNew > 0 && !acc.pace.take(now, 60, int64(q.PeerNew), newBurst):
		return nil, overPace
	}
	l := &lease{accounts: a, account: acc, foreign: foreign, address: address}
	l.add(1)
	return l, fine
}

func share(n, of int) int { return max(1, n/of) }

// add counts allocations. It is called with accounts.mu held.
func (l *lease) add(n int) {
	a, acc := l.accounts, l.account
	if acc.allocations == 0 {
		a.peers++
	}
	acc.allocations += n
	if acc.allocations == 0 {
		a.peers--
	}
	a.total += n
	acc.issuer.allocations += n
	if l.foreign {
		a.others += n
	}
	if !l.address.IsValid() {
		return
	}
	if a.addresses[l.address] += n; a.addresses[l.address] == 0 {
		delete(a.addresses, l.address)
	}
}

// release gives the allocation back. It is called once.
func (l *lease) release() {
	l.accounts.mu.Lock()
	defer l.accounts.mu.Unlock()
	l.add(-1)
}

// spend takes n bytes from all that pay for them.
func (l *lease) spend(now time.Time, n int) reason {
	if why := l.account.meter.take(now, n); why != fine {
		return why
	}
	if l.foreign {
		if why := l.account.issuer.meter.take(now, n); why != fine {
			return why
		}
	}
	return l.accounts.all.take(now, n)
}

// account finds or makes a peer's. It is called with accounts.mu held.
func (a *accounts) account(peer client, foreign bool) *account {
	is := a.issuers[peer.issuer]
	if is == nil {
		makeRoom(a.issuers, maxIssuers, func(i *issuer) bool { return i.allocations == 0 })
		is = &issuer{peers: make(map[[16]byte]*account)}
		if foreign {
			is.meter = meter{rate: a.quota.NodeRate / shareOfIssuer, perDay: a.quota.NodeDay / shareOfIssuer}
		}
		a.issuers[peer.issuer] = is
	}
	acc := is.peers[peer.hash]
	if acc == nil {
		most := maxPeers
		if foreign {
			most = peersOfOthers
		}
		makeRoom(is.peers, most, func(c *account) bool { return c.allocations == 0 })
		acc = &account{issuer: is, meter: meter{rate: a.quota.PeerRate, perDay: a.quota.PeerDay}}
		is.peers[peer.hash] = acc
	}
	return acc
}

// makeRoom forgets an entry that is idle if the map is full. There always is
// one, since there are fewer allocations than entries.
func makeRoom[K comparable, V any](m map[K]V, most int, idle func(V) bool) {
	if len(m) < most {
		return
	}
	for k, v := range m {
		if idle(v) {
			delete(m, k)
			return
		}
	}
}

func (a *accounts) live() (allocations, peers int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.total, a.peers
}
