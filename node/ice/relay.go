package ice

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	maxRemotes   = 64      // addresses that an allocation has permissions for
	maxChannels  = 64      // of an allocation
	maxPorts     = 64      // of one address, that have replied
	unheard      = 4 << 10 // bytes that may go to an address before it replies
	maxDatagram  = 1600    // what pion/turn reads of one
	controlRate  = 50      // requests a second of a client that has an allocation
	controlBurst = 10 * time.Second
	overhead     = 28 // bytes of IP and UDP, which empty datagrams have as well
)

// relay is the socket of one allocation, which pion/turn reads and writes. What
// may pass it is decided here.
type relay struct {
	s     *Server
	front *front
	lease *lease
	conn  *net.UDPConn

	client netip.AddrPort // whose allocation it is
	peer   client
	told   netip.AddrPort // the relayed address
	local  netip.AddrPort // what the socket is bound to
	made   time.Time

	// Owned by the front's read loop.
	expiry  time.Time // of the allocation, if it is not refreshed, or earlier
	control bucket

	mu       sync.Mutex
	remotes  map[netip.Addr]*remote
	channels map[netip.AddrPort]bool // by peer
	closed   bool
}

// remote is an address of peers that there is a permission or a channel for.
type remote struct {
	refs int             // the permission, and each channel
	sent int             // bytes to ports that have not replied
	open map[uint16]bool // the ports that have
}

// WriteTo sends to a peer what is allowed to go there, and drops the rest: UDP
// tells nobody.
func (r *relay) WriteTo(p []byte, to net.Addr) (int, error) {
	peer := addrPort(to)
	dst, why := r.s.addresses.route(peer)
	if why == fine {
		why = r.sends(peer, len(p))
	}
	if why == fine {
		why = r.lease.spend(time.Now(), len(p)+overhead)
	}
	if why == fine {
		if _, err := r.conn.WriteToUDPAddrPort(p, dst); err != nil {
			why = unsent
		}
	}
	if why == fine {
		r.s.count.in.Add(int64(len(p)))
	} else {
		r.s.count.refuse(why)
	}
	return len(p), nil
}

// sends says whether n bytes may go to a peer, as to what it has replied.
func (r *relay) sends(to netip.AddrPort, n int) reason {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.remotes[to.Addr()]
	switch {
	case m == nil:
		return stray
	case m.open[to.Port()]:
		return fine
	}
	if n = max(n, overhead); m.sent+n > unheard {
		return silent
	}
	m.sent += n
	return fine
}

// ReadFrom gives what a peer has sent, if there is a permission for it.
func (r *relay) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		n, from, err := r.conn.ReadFromUDPAddrPort(p)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				r.s.running.Done()
				return 0, nil, err
			}
			time.Sleep(time.Millisecond) // an error of one datagram, on some systems
			continue
		}
		peer := r.s.addresses.origin(usual(from))
		var why reason
		switch {
		case !r.hears(peer):
			why = stray
		case n >= len(p): // cut off, perhaps
			why = tooLarge
		default:
			why = r.lease.spend(time.Now(), n+overhead)
		}
		if why != fine {
			r.s.count.refuse(why)
			continue
		}
		r.s.count.out.Add(int64(n))
		return n, net.UDPAddrFromAddrPort(peer), nil
	}
}

// hears says whether there is a permission for who has sent something, and
// remembers that it has.
func (r *relay) hears(from netip.AddrPort) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.remotes[from.Addr()]
	if m == nil {
		return false
	}
	if !m.open[from.Port()] {
		makeRoom(m.open, maxPorts, func(bool) bool { return true })
		m.open[from.Port()] = true
	}
	return true
}

// room says whether a permission may be made for an address. It may be there.
func (r *relay) room(ip netip.Addr) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.remotes) < maxRemotes || r.remotes[ip] != nil
}

// roomFor says whether a channel may be bound to a peer. It may be there.
func (r *relay) roomFor(peer netip.AddrPort) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.channels) < maxChannels || r.channels[peer]
}

// channel notes that a channel was bound, 1, or is no more, -1.
func (r *relay) channel(peer netip.AddrPort, n int) {
	r.mu.Lock()
	if n > 0 {
		r.channels[peer] = true
	} else {
		delete(r.channels, peer)
	}
	r.mu.Unlock()
	r.hold(peer.Addr(), n)
}

// hold counts permissions and channels, as pion/turn makes and forgets them.
func (r *relay) hold(ip netip.Addr, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.remotes[ip]
	if m == nil {
		if n <= 0 {
			return
		}
		m = &remote{open: make(map[uint16]bool)}
		r.remotes[ip] = m
	}
	if m.refs += n; m.refs <= 0 {
		delete(r.remotes, ip)
	}
}

// reach is where this machine sends to, to reach the relay.
func (r *relay) reach() netip.AddrPort {
	switch r.local.Addr() {
	case netip.IPv4Unspecified():
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), r.local.Port())
	case netip.IPv6Unspecified():
		return netip.AddrPortFrom(netip.IPv6Loopback(), r.local.Port())
	}
	return r.local
}

// Close ends the allocation. pion/turn calls it, once or more often.
func (r *relay) Close() error {
	r.mu.Lock()
	was := r.closed
	r.closed = true
	r.mu.Unlock()
	if was {
		return nil
	}
	r.s.addresses.remove(r)
	r.front.forget(r)
	r.lease.release()
	return r.conn.Close()
}

func (r *relay) LocalAddr() net.Addr                { return net.UDPAddrFromAddrPort(r.told) }
func (r *relay) SetDeadline(t time.Time) error      { return r.conn.SetDeadline(t) }
func (r *relay) SetReadDeadline(t time.Time) error  { return r.conn.SetReadDeadline(t) }
func (r *relay) SetWriteDeadline(t time.Time) error { return r.conn.SetWriteDeadline(t) }
