package lan_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/peerservers/peerserver/peer/lan"
	"github.com/peerservers/peerserver/protocol"
)

// tap records what is written.
type tap struct {
	net.Conn
	mu      sync.Mutex
	written bytes.Buffer
}

func (c *tap) Write(b []byte) (int, error) {
	c.mu.Lock()
	c.written.Write(b)
	c.mu.Unlock()
	return c.Conn.Write(b)
}

// sides are two ids, the lower first.
func sides() (low, high protocol.PeerID) {
	low, high = idOf(1), idOf(2)
	if string(low[:]) > string(high[:]) {
		low, high = high, low
	}
	return low, high
}

// pair opens both sides of a TCP connection.
func pair(t *testing.T, dialApp, acceptApp protocol.AppID, dialler, acceptor protocol.PeerID, who *protocol.PeerID) (a, b *lan.Stream, wire *tap, errs [2]error) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	d, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	wire = &tap{Conn: c}
	var opening sync.WaitGroup
	opening.Go(func() { a, errs[0] = lan.Open(t.Context(), wire, dialApp, dialler, who) })
	opening.Go(func() { b, errs[1] = lan.Open(t.Context(), d, acceptApp, acceptor, nil) })
	opening.Wait()
	t.Cleanup(func() {
		c.Close()
		d.Close()
	})
	return a, b, wire, errs
}

func TestStream(t *testing.T) {
	app := protocol.App("peer", []byte("a-name"), nil)
	low, high := sides()
	a, b, wire, errs := pair(t, app, app, low, high, &high)
	if errs != [2]error{} {
		t.Fatal(errs)
	}
	if a.Peer() != high || b.Peer() != low {
		t.Fatal(a.Peer(), b.Peer())
	}
	for i := range 3 {
		for _, way := range [][2]*lan.Stream{{a, b}, {b, a}} {
			m := &protocol.Control{Body: &protocol.Control_Unlinked{Unlinked: &protocol.Unlinked{Member: bytes.Repeat([]byte{byte(i)}, 40)}}}
			if err := way[0].Write(m); err != nil {
				t.Fatal(err)
			}
			if got, err := way[1].Read(); err != nil || !proto.Equal(got, m) {
				t.Fatal(got, err)
			}
		}
	}
	secret := &protocol.Control{Body: &protocol.Control_Passed{Passed: &protocol.Envelope{Body: append([]byte("in the clear"), app[:]...)}}}
	if err := a.Write(secret); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Read(); err != nil {
		t.Fatal(err)
	}
	if all := wire.written.Bytes(); bytes.Contains(all, []byte("in the clear")) || bytes.Contains(all, app[:]) {
		t.Fatal("it is in the clear")
	}
	large := &protocol.Control{Body: &protocol.Control_Passed{Passed: &protocol.Envelope{Body: make([]byte, protocol.MaxLANMessage)}}}
	var e *protocol.Error
	if err := a.Write(large); !errors.As(err, &e) || e.Code != protocol.CodeTooLarge {
		t.Fatal(err)
	}
	// What is changed on its way ends the stream, before it is looked at.
	if _, err := wire.Conn.Write(append([]byte{0, 0, 0, 40}, make([]byte, 40)...)); err != nil {
		t.Fatal(err)
	}
	if m, err := b.Read(); !errors.As(err, &e) || e.Code != protocol.CodeSignature {
		t.Fatal(m, err)
	}
	a.Close()
	a.Close()
	if _, err := b.Read(); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
}

func TestStreamRefuses(t *testing.T) {
	app, other := protocol.App("peer", []byte("mine"), nil), protocol.App("peer", []byte("other"), nil)
	low, high := sides()
	for _, c := range []struct {
		name              string
		dial, accept      protocol.AppID
		dialler, acceptor protocol.PeerID
		who               *protocol.PeerID
	}{
		{"another app", app, other, low, high, &high},
		{"another peer", app, app, low, high, &protocol.PeerID{0xff}},
		{"the higher dials", app, app, high, low, &low},
		{"nobody dials", app, app, low, high, nil},
	} {
		a, b, _, errs := pair(t, c.dial, c.accept, c.dialler, c.acceptor, c.who)
		if errs[0] == nil && errs[1] == nil {
			t.Errorf("%s: it opens: %v, %v", c.name, a, b)
		}
	}
}

// TestStreamOfStranger: who says nothing, or too much, is given up in time, and
// nothing is made room for that is not allowed.
func TestStreamOfStranger(t *testing.T) {
	app := protocol.App("peer", []byte("mine"), nil)
	low, _ := sides()
	synctest.Test(t, func(t *testing.T) {
		for _, says := range [][]byte{nil, {0, 0}, binary.BigEndian.AppendUint32(nil, 1<<31), {0, 0, 0, 2, 0xff, 0xff}, {0, 0, 0, 0}} {
			ours, theirs := net.Pipe()
			var talking sync.WaitGroup
			talking.Go(func() { _, _ = io.Copy(io.Discard, theirs) })
			talking.Go(func() { _, _ = theirs.Write(says) })
			began := time.Now()
			s, err := lan.Open(context.Background(), ours, app, low, nil)
			if err == nil || s != nil || time.Since(began) > protocol.LANHelloTime {
				t.Errorf("%x: %v after %v", says, err, time.Since(began))
			}
			if n, err := ours.Write(nil); err == nil {
				t.Errorf("%x: still open, %d", says, n)
			}
			theirs.Close()
			talking.Wait()
		}
	})
}
