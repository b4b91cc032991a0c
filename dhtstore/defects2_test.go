package dhtstore

import (
	"errors"
	"net"
	"sync/atomic"
)

// failingConn fails to read a few times, as a socket does when an ICMP message
// comes in.
type failingConn struct {
	net.PacketConn
	failures atomic.Int64
}

var errICMP = errors.New("read: connection refused")

func (c *failingConn) ReadFrom(b []byte) (int, net.Addr, error) {
	if c.failures.Add(1) <= 5 {
		return 0, nil, errICMP
	}
	return c.PacketConn.ReadFrom(b)
}
