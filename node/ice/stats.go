package ice

import (
	"sync/atomic"
	"time"
)

// Stats are counts of the server. Bytes are payload that was relayed: in is from
// clients, out to them.
type Stats struct {
	Allocations int              `json:"allocations"`
	Peers       int              `json:"peers"` // that have an allocation
	Conns       int              `json:"conns"` // over TCP and TLS
	Bindings    int64            `json:"bindings"`
	BytesIn     int64            `json:"bytes_in"`
	BytesOut    int64            `json:"bytes_out"`
	BytesToday  int64            `json:"bytes_today"` // both, since midnight UTC
	Refused     map[string]int64 `json:"refused"`     // by reason, those that occurred; of the set that Reasons lists
}

// reason is why something was refused or dropped.
type reason int

const (
	fine reason = iota

	malformed      // not STUN, not of its form, or what this server does not do
	overRequests   // too many requests of one source
	badCredentials // a user name or a password
	expired        // credentials
	ahead          // credentials that expire too far in the future
	noFamily       // the node has no such address
	noTransport    // other than UDP to relay over
	noPort         // none free, or a particular one was asked for
	overAll        // allocations in all
	overPeer       // of one peer
	overAddress    // of one client address
	overIssuer     // of one issuing node's peers, or of all others'
	overPace       // made by one peer in a minute
	badAddress     // of a peer to relay to
	badPort        // of a peer
	overRemotes    // permissions or channels of one allocation
	silent         // too much to an address that has not replied
	stray          // from an address without permission, or without an allocation
	tooLarge       // a datagram to relay
	unsent         // the network would not take it
	overRate       // bytes a second
	overDay        // bytes a day
	overConns      // connections
	slow           // no message in time
	reasons        // how many there are
)

func (r reason) String() string {
	return [reasons]string{
		"", "malformed", "requests", "credentials", "expired", "ahead", "family", "transport", "port",
		"allocations", "peer_allocations", "address_allocations", "issuer_allocations", "allocation_pace",
		"peer_address", "peer_port", "permissions", "no_reply", "no_permission", "too_large", "unreachable",
		"bytes_per_second", "bytes_per_day", "connections", "silent_connection",
	}[r]
}

// Reasons are all that Stats.Refused may name.
func Reasons() []string {
	var list []string
	for r := fine + 1; r < reasons; r++ {
		list = append(list, r.String())
	}
	return list
}

// counters are what Stats are made of.
type counters struct {
	bindings, in, out atomic.Int64
	refused           [reasons]atomic.Int64
}

func (c *counters) refuse(r reason) { c.refused[r].Add(1) }

// Stats are the counts at the moment.
func (s *Server) Stats() Stats {
	st := Stats{
		Bindings: s.count.bindings.Load(), BytesIn: s.count.in.Load(), BytesOut: s.count.out.Load(),
		BytesToday: s.accounts.all.today(time.Now()), Conns: s.conns.len(), Refused: make(map[string]int64),
	}
	st.Allocations, st.Peers = s.accounts.live()
	for r := fine + 1; r < reasons; r++ {
		if n := s.count.refused[r].Load(); n > 0 {
			st.Refused[r.String()] = n
		}
	}
	return st
}
