package ice

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/pion/stun/v4"
)

func contextOf(t testing.TB) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(t.Context()), time.Hour)
}

func TestDiscover(t *testing.T) {
	sc := serve(t, func(c *Config) { c.TURN = false })
	c := listenUDP(t, "127.0.0.1:0")
	ctx, cancel := contextOf(t)
	defer cancel()
	at, err := Discover(ctx, c, sc.udp)
	if err != nil || at != addrPort(c.LocalAddr()) {
		t.Errorf("%v, %v, want %v", at, err, c.LocalAddr())
	}
	// The socket is as it was.
	_, err = c.WriteTo([]byte("x"), c.LocalAddr())
	must(t, err)
	c.SetReadDeadline(time.Now().Add(patience))
	if _, err := c.Read(make([]byte, 10)); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// A node learns the address of its STUN port itself, while that serves.
func TestDiscoverWhileServing(t *testing.T) {
	a, b := serve(t, nil), serve(t, nil)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			ctx, cancel := contextOf(t)
			defer cancel()
			if at, err := a.Discover(ctx, b.udp); err != nil || at != a.udp {
				t.Errorf("%v, %v, want %v", at, err, a.udp)
			}
		})
	}
	a.alive()
	all.Wait()
	if len(a.asked.m) != 0 {
		t.Errorf("%d questions are left", len(a.asked.m))
	}
}

// liar answers a Binding request as it is told to, not from its own socket alone.
func TestDiscoverBelievesOnlyWhomItAsked(t *testing.T) {
	lost, liar, c := listenUDP(t, "127.0.0.1:0"), listenUDP(t, "127.0.0.1:0"), listenUDP(t, "127.0.0.1:0")
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for try := 0; ; try++ {
			n, from, err := lost.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			q := &stun.Message{Raw: append([]byte(nil), buf[:n]...)}
			if q.Decode() != nil {
				continue
			}
			say := func(via *net.UDPConn, id [12]byte, port int) {
				m, err := stun.Build(stun.NewTransactionIDSetter(id), stun.BindingSuccess, &stun.XORMappedAddress{IP: net.IP{9, 9, 9, 9}, Port: port})
				if err == nil {
					_, _ = via.WriteToUDPAddrPort(m.Raw, from)
				}
			}
			say(liar, q.TransactionID, 1)
			say(lost, [12]byte{1}, 2)
			_, _ = lost.WriteToUDPAddrPort([]byte("garbage"), from)
			if try > 0 { // the first question is lost
				say(lost, q.TransactionID, 3)
			}
		}
	}()
	ctx, cancel := contextOf(t)
	defer cancel()
	at, err := Discover(ctx, c, addrPort(lost.LocalAddr()))
	if err != nil || at != netip.MustParseAddrPort("9.9.9.9:3") {
		t.Errorf("%v, %v", at, err)
	}
	lost.Close()
	<-done
}

func TestDiscoverGivesUp(t *testing.T) {
	nobody, c := listenUDP(t, "127.0.0.1:0"), listenUDP(t, "127.0.0.1:0")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Discover(ctx, c, addrPort(nobody.LocalAddr())); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	refuses := listenUDP(t, "127.0.0.1:0")
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 100)
		n, from, err := refuses.ReadFromUDPAddrPort(buf)
		q := &stun.Message{Raw: buf[:n]}
		if err != nil || q.Decode() != nil {
			return
		}
		m, err := stun.Build(stun.NewTransactionIDSetter(q.TransactionID), stun.BindingError, stun.CodeBadRequest)
		if err == nil {
			_, _ = refuses.WriteToUDPAddrPort(m.Raw, from)
		}
	}()
	if _, err := Discover(t.Context(), c, addrPort(refuses.LocalAddr())); err == nil || errors.Is(err, ErrNoAnswer) {
		t.Errorf("%v", err)
	}
	<-done
}
