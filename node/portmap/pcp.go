package portmap

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// PCP, RFC 6887, as far as it is needed: there is no library of it that is looked
// after. A request is a header of 24 bytes and, of a MAP, 36 more:
//
//	version 2 | opcode | 0 0 | lifetime (4) | client's address (16)
//	nonce (12) | protocol | 0 0 0 | internal port (2) | external port (2) | external address (16)
//
// An answer has 0x80 in the opcode, a result in the fourth byte and instead of
// the address the router's epoch and zeros.
const (
	namePCP    = "pcp"
	pcpPort    = 5351
	pcpVersion = 2
	pcpMap     = 1
	pcpHeader  = 24
	pcpSize    = pcpHeader + 36
	pcpMost    = 1100 // of any message
	pcpFirst   = 250 * time.Millisecond
)

var errPCP = errors.New("the router's answer is not one of PCP to the question")

// pcp is a router that speaks it.
type pcp struct {
	gateway Gateway

	mu     sync.Mutex
	nonces map[Port][12]byte // a mapping is renewed and removed by who knows its nonce
	seen   netip.Addr        // the router's address outside
}

func findPCP(ctx context.Context, g Gateway) (client, error) {
	c := &pcp{gateway: g, nonces: make(map[Port][12]byte)}
	// An ANNOUNCE asks for nothing and is answered by who speaks PCP.
	_, err := c.call(ctx, c.header(0, 0), func(b []byte) error {
		return checkPCP(b, 0, pcpHeader)
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (c *pcp) name() string { return namePCP }

func (c *pcp) address(context.Context) (netip.Addr, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.seen.IsValid() {
		return c.seen, errors.New("the router has not said its address")
	}
	return c.seen, nil
}

func (c *pcp) add(ctx context.Context, p Port, external uint16) (uint16, time.Duration, error) {
	reply, err := c.mapPort(ctx, p, external, lifetime)
	if err != nil {
		return 0, 0, err
	}
	c.mu.Lock()
	c.seen = reply.address
	c.mu.Unlock()
	return reply.external, reply.life, nil
}

func (c *pcp) remove(ctx context.Context, m Mapping) error {
	_, err := c.mapPort(ctx, m.Port, 0, 0)
	return err
}

// nonce is the mapping's own.
func (c *pcp) nonce(p Port) [12]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, ok := c.nonces[p]
	if !ok {
		_, _ = rand.Read(n[:])
		c.nonces[p] = n
	}
	return n
}

func (c *pcp) header(opcode byte, life time.Duration) []byte {
	b := make([]byte, 8, pcpSize)
	b[0], b[1] = pcpVersion, opcode
	binary.BigEndian.PutUint32(b[4:], uint32(life/time.Second))
	local := c.gateway.Local.As16()
	return append(b, local[:]...)
}

// pcpReply is what a router says to a MAP.
type pcpReply struct {
	life     time.Duration
	external uint16
	address  netip.Addr
}

func (c *pcp) mapPort(ctx context.Context, p Port, external uint16, life time.Duration) (reply pcpReply, err error) {
	nonce := c.nonce(p)
	b := append(c.header(pcpMap, life), nonce[:]...)
	b = append(b, ipProtocol(p), 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, p.Number)
	b = binary.BigEndian.AppendUint16(b, external)
	any4 := netip.IPv4Unspecified().As16() // ::ffff:0.0.0.0, any of IPv4
	b = append(b, any4[:]...)
	_, err = c.call(ctx, b, func(answer []byte) error {
		r, e := parsePCP(answer, nonce, p)
		if e == nil {
			reply = r
		}
		return e
	})
	return reply, err
}

func ipProtocol(p Port) byte {
	if p.TCP {
		return 6
	}
	return 17
}

// pcpError is a result code.
type pcpError byte

func (e pcpError) Error() string {
	switch e {
	case 1:
		return "the router speaks another version of PCP"
	case 2:
		return "the router does not allow it"
	case 8:
		return "the router has no port left for this machine"
	case 12:
		return "the router says that this machine is behind another NAT"
	}
	return fmt.Sprintf("the router refuses with PCP's code %d", byte(e))
}

// checkPCP looks whether an answer is one to the opcode, of that size at least.
func checkPCP(b []byte, opcode byte, size int) error {
	if len(b) >= 4 && b[0] != pcpVersion {
		return pcpError(1) // NAT-PMP answers like this
	}
	if len(b) < pcpHeader || len(b) > pcpMost || b[1] != opcode|0x80 {
		return errPCP
	}
	if b[3] != 0 {
		return pcpError(b[3])
	}
	if len(b) < size {
		return errPCP
	}
	return nil
}

// parsePCP reads the answer to a MAP.
func parsePCP(b []byte, nonce [12]byte, p Port) (pcpReply, error) {
	if err := checkPCP(b, pcpMap, pcpSize); err != nil {
		return pcpReply{}, err
	}
	body := b[pcpHeader:pcpSize]
	if !bytes.Equal(body[:12], nonce[:]) || body[12] != ipProtocol(p) || binary.BigEndian.Uint16(body[16:]) != p.Number {
		return pcpReply{}, errPCP
	}
	return pcpReply{
		life:     time.Duration(binary.BigEndian.Uint32(b[4:])) * time.Second,
		external: binary.BigEndian.Uint16(body[18:]),
		address:  netip.AddrFrom16([16]byte(body[20:])).Unmap(),
	}, nil
}

// call sends a request until it is answered. What take finds to be no answer to
// it is skipped.
func (c *pcp) call(ctx context.Context, request []byte, take func([]byte) error) (time.Duration, error) {
	conn, err := net.DialUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(c.gateway.Local, 0)),
		net.UDPAddrFromAddrPort(netip.AddrPortFrom(c.gateway.Router, pcpPort)))
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })()
	start := time.Now()
	buf := make([]byte, pcpMost+1)
	for wait := pcpFirst; ctx.Err() == nil; wait *= 2 {
		if _, err := conn.Write(request); err != nil {
			return 0, err
		}
		_ = conn.SetReadDeadline(time.Now().Add(wait))
		for ctx.Err() == nil {
			n, err := conn.Read(buf)
			if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
				break
			}
			if err != nil {
				return 0, fmt.Errorf("the router does not speak PCP: %w", bare(err))
			}
			if err := take(buf[:n]); !errors.Is(err, errPCP) {
				return time.Since(start), err
			}
		}
	}
	return 0, errors.New("the router does not answer PCP")
}

// bare takes the addresses off an error.
func bare(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}
