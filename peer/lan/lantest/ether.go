// Package lantest has a LAN in memory, for tests of what uses peer/lan.
package lantest

import (
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/peerservers/peerserver/peer/lan"
)

// Ether is a LAN: what one host sends all hear, itself too.
type Ether struct {
	mu    sync.Mutex
	hosts []*Host
	sent  [][]byte
}

// Host is a machine with one interface on the LAN. It implements lan.Network.
type Host struct {
	ether *Ether
	on    lan.Interface

	mu     sync.Mutex // taken after the Ether's
	down   bool
	conns  []*conn
	joined map[*conn]bool
}

type datagram struct {
	b    []byte
	from netip.Addr
}

type conn struct {
	h    *Host
	in   chan datagram
	done chan struct{}
	once sync.Once
}

// Host adds a machine with addresses such as 10.0.0.1/24.
func (e *Ether) Host(addresses ...string) *Host {
	e.mu.Lock()
	defer e.mu.Unlock()
	h := &Host{ether: e, on: lan.Interface{Index: len(e.hosts) + 1, Name: "eth0"}, joined: make(map[*conn]bool)}
	for _, a := range addresses {
		h.on.Subnets = append(h.on.Subnets, netip.MustParsePrefix(a))
	}
	e.hosts = append(e.hosts, h)
	return h
}

// Send sends anything from any address.
func (e *Ether) Send(from netip.Addr, b []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sent = append(e.sent, slices.Clone(b))
	for _, h := range e.hosts {
		h.deliver(datagram{slices.Clone(b), from})
	}
}

// Sent are all datagrams so far.
func (e *Ether) Sent() [][]byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.sent)
}

// Plug connects or disconnects the interface.
func (h *Host) Plug(in bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down = !in
	clear(h.joined)
}

// Interfaces implements lan.Network.
func (h *Host) Interfaces() ([]lan.Interface, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.down {
		return nil, nil
	}
	return []lan.Interface{h.on}, nil
}

// Listen implements lan.Network.
func (h *Host) Listen() ([]lan.Conn, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := &conn{h: h, in: make(chan datagram, 1024), done: make(chan struct{})}
	h.conns = append(h.conns, c)
	return []lan.Conn{c}, nil
}

// deliver drops what a host does not read in time, as UDP does.
func (h *Host) deliver(d datagram) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.conns {
		if h.down || !h.joined[c] {
			continue
		}
		select {
		case c.in <- d:
		default:
		}
	}
}

func (c *conn) Join(lan.Interface) error {
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	c.h.joined[c] = true
	return nil
}

func (c *conn) Send(_ lan.Interface, b []byte) error {
	c.h.mu.Lock()
	down := c.h.down
	c.h.mu.Unlock()
	if !down {
		c.h.ether.Send(c.h.on.Subnets[0].Addr(), b)
	}
	return nil
}

func (c *conn) Receive(b []byte) (int, netip.Addr, int, error) {
	select {
	case d := <-c.in:
		return copy(b, d.b), d.from, c.h.on.Index, nil
	case <-c.done:
		return 0, netip.Addr{}, 0, net.ErrClosed
	}
}

func (c *conn) Close() error {
	c.once.Do(func() { close(c.done) })
	return nil
}
