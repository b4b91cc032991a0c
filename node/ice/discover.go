package ice

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/stun/v4"
)

const (
	firstWait = 500 * time.Millisecond // for an answer, then twice as long (RFC 8489, 6.2.1)
	sendings  = 7
	lastWait  = 8 * time.Second // 16 times the first
	maxAsked  = 64              // questions at once
)

// ErrNoAnswer is that a STUN server did not answer.
var ErrNoAnswer = errors.New("the STUN server did not answer; is UDP let out, and the server's port let in?")

// Discover asks a STUN server which address it sees conn at. Nobody else may read
// conn meanwhile. It gives up after 40 s, or when ctx is done. Errors are
// ErrNoAnswer, those of ctx and of conn.
func Discover(ctx context.Context, conn net.PacketConn, server netip.AddrPort) (netip.AddrPort, error) {
	var a asked
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, maxDatagram)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			a.answer(buf[:n], addrPort(from))
		}
	}()
	at, err := a.ask(ctx, conn, server)
	_ = conn.SetReadDeadline(time.Unix(1, 0))
	<-done
	_ = conn.SetReadDeadline(time.Time{})
	return at, err
}

// Discover asks another STUN server which address it sees this one's socket at,
// while that serves.
func (s *Server) Discover(ctx context.Context, server netip.AddrPort) (netip.AddrPort, error) {
	for _, p := range s.cfg.Packets {
		if at := addrPort(p.LocalAddr()).Addr(); at.Is4() == server.Addr().Unmap().Is4() || at == netip.IPv6Unspecified() {
			return s.asked.ask(ctx, p, server)
		}
	}
	return netip.AddrPort{}, errors.New("no STUN socket of this server is of the other's address family")
}

// asked are the questions that wait for an answer.
type asked struct {
	mu sync.Mutex
	m  map[[stun.TransactionIDSize]byte]question
}

type question struct {
	server netip.AddrPort
	answer chan netip.AddrPort // one: invalid for an error
}

// ask sends a Binding request until it is answered.
func (a *asked) ask(ctx context.Context, conn net.PacketConn, server netip.AddrPort) (netip.AddrPort, error) {
	server = usual(server)
	msg, err := stun.Build(stun.TransactionID, stun.BindingRequest)
	if err != nil {
		return netip.AddrPort{}, err
	}
	q := question{server, make(chan netip.AddrPort, 1)}
	if !a.add(msg.TransactionID, q) {
		return netip.AddrPort{}, errors.New("too many questions to STUN servers at once")
	}
	defer a.remove(msg.TransactionID)
	for n, wait := 1, firstWait; n <= sendings; n, wait = n+1, 2*wait {
		if _, err := conn.WriteTo(msg.Raw, net.UDPAddrFromAddrPort(server)); err != nil {
			return netip.AddrPort{}, fmt.Errorf("ask a STUN server: %w", err)
		}
		if n == sendings {
			wait = lastWait
		}
		timer := time.NewTimer(wait)
		select {
		case at := <-q.answer:
			timer.Stop()
			if !at.IsValid() {
				return at, errors.New("the STUN server answered with an error")
			}
			return at, nil
		case <-ctx.Done():
			timer.Stop()
			return netip.AddrPort{}, ctx.Err()
		case <-timer.C:
		}
	}
	return netip.AddrPort{}, ErrNoAnswer
}

func (a *asked) add(id [stun.TransactionIDSize]byte, q question) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.m) >= maxAsked {
		return false
	}
	if a.m == nil {
		a.m = make(map[[stun.TransactionIDSize]byte]question)
	}
	a.m[id] = q
	return true
}

func (a *asked) remove(id [stun.TransactionIDSize]byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.m, id)
}

// answer takes what has come from somewhere for an answer, if it is one.
func (a *asked) answer(p []byte, from netip.AddrPort) reason {
	if !stun.IsMessage(p) {
		return malformed
	}
	msg := &stun.Message{Raw: append([]byte(nil), p...)}
	if msg.Decode() != nil {
		return malformed
	}
	a.mu.Lock()
	q, ok := a.m[msg.TransactionID]
	a.mu.Unlock()
	if !ok || q.server != from {
		return stray
	}
	var at netip.AddrPort
	var mapped stun.XORMappedAddress
	if msg.Type == stun.BindingSuccess && mapped.GetFrom(msg) == nil {
		ip, _ := netip.AddrFromSlice(mapped.IP)
		at = netip.AddrPortFrom(ip.Unmap(), uint16(mapped.Port))
	}
	select {
	case q.answer <- at:
	default: // it has one
	}
	return fine
}
