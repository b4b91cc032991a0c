package relay

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// DialPolicy says where a node may dial. The addresses come from strangers, so
// with the zero value only public ones are dialled: nobody can make a node
// knock at doors inside its own network.
type DialPolicy struct {
	// AllowPrivate permits loopback, private and other special addresses.
	AllowPrivate bool
	// Allow permits one that would be refused, such as that of a node whose
	// signed beacon was heard on the same subnet. It is called from any
	// goroutine; nil permits none.
	Allow func(netip.AddrPort) bool
	// TLS is for wss; nil trusts the system's roots.
	TLS *tls.Config
	// Resolver looks names up; nil is the system's.
	Resolver *net.Resolver
}

// judge looks at an address that is about to be connected, after the lookup:
// whatever a name answers, now or the next time, is what is judged.
func (p *DialPolicy) judge(network, address string) (to netip.AddrPort, err error) {
	to, err = netip.ParseAddrPort(address)
	if err != nil || (network != "tcp4" && network != "tcp6") {
		return to, protocol.Errorf(protocol.CodeRefused, "dial: only TCP to an IP address is allowed")
	}
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	if port := to.Port(); port < 1024 && port != 80 && port != 443 {
		return to, protocol.Errorf(protocol.CodeRefused, "dial: of the ports under 1024 only 80 and 443 are allowed")
	}
	if p.AllowPrivate || protocol.Public(to.Addr()) || (p.Allow != nil && p.Allow(to)) {
		return to, nil
	}
	return to, protocol.Errorf(protocol.CodeRefused, "dial: the address is not a public one; private ones need --allow-private")
}

// dialAddresses is how many addresses of one name are tried: a name may have
// hundreds.
const dialAddresses = 4

// control is all that is asked before an address is connected, in the form
// that net.Dialer wants, for one dial of url.
func (p *DialPolicy) control(seen *places, url string) func(context.Context, string, string, syscall.RawConn) error {
	var tries atomic.Int32 // IPv6 and IPv4 are tried at once
	return func(_ context.Context, network, address string, _ syscall.RawConn) error {
		if tries.Add(1) > dialAddresses {
			return protocol.Errorf(protocol.CodeRefused, "dial: the name has too many addresses")
		}
		to, err := p.judge(network, address)
		if err != nil {
			return err
		}
		if !p.AllowPrivate && !seen.mayConnect(to, url, time.Now()) {
			return protocol.Errorf(protocol.CodeRate, "dial: many URLs lead to this address, and no node has answered there")
		}
		return nil
	}
}

// placeURLs is how many URLs may lead to one ip:port where no handshake has
// succeeded, in protocol.DialUnproven. Several nodes may share the address of
// a reverse proxy.
const placeURLs = 4

// places keeps many names for one address from becoming many dials: who owns
// a domain owns any number of names, and could point them at somebody who
// never asked for links. How often one URL is dialled is the dialBook's.
type places struct {
	mu  sync.Mutex
	all map[netip.AddrPort]*place // at most protocol.DialBook
}

type place struct {
	proven bool
	since  time.Time
	urls   []string
}

func newPlaces() *places { return &places{all: make(map[netip.AddrPort]*place)} }

func (s *places) mayConnect(to netip.AddrPort, url string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.all[to]
	if p == nil || now.Sub(p.since) >= protocol.DialUnproven {
		if !s.makeRoom(now) {
			return false
		}
		proven := p != nil && p.proven
		p = &place{since: now, proven: proven}
		s.all[to] = p
	}
	if p.proven || slices.Contains(p.urls, url) {
		return true
	}
	if len(p.urls) == placeURLs {
		return false
	}
	p.urls = append(p.urls, url)
	return true
}

// makeRoom forgets what is old when there are too many. Dials are so few a
// minute that they cannot all be new.
func (s *places) makeRoom(now time.Time) bool {
	if len(s.all) < protocol.DialBook {
		return true
	}
	for to, p := range s.all {
		if now.Sub(p.since) >= protocol.DialUnproven {
			delete(s.all, to)
		}
	}
	return len(s.all) < protocol.DialBook
}

// proved says that a handshake has succeeded there.
func (s *places) proved(at net.Addr) {
	tcp, ok := at.(*net.TCPAddr)
	if !ok {
		return
	}
	to := netip.AddrPortFrom(tcp.AddrPort().Addr().Unmap(), tcp.AddrPort().Port())
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.all[to]; p != nil {
		p.proven, p.urls = true, nil
	}
}
