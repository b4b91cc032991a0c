package ice

import (
	"bytes"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/peerservers/peerserver/protocol"
	"github.com/pion/stun/v4"
	"github.com/pion/turn/v5"
)

// memory is a UDP socket without a network. What is put into in is read by the
// server, and its last answer is kept.
type memory struct {
	in     chan datagram
	port   int // of who sends
	closed chan struct{}
	answer []byte
}

type datagram struct {
	b    []byte
	from *net.UDPAddr
}

func (m *memory) ReadFrom(p []byte) (int, net.Addr, error) {
	select {
	case d := <-m.in:
		return copy(p, d.b), d.from, nil
	case <-m.closed:
		return 0, nil, net.ErrClosed
	}
}

func (m *memory) WriteTo(p []byte, _ net.Addr) (int, error) {
	m.answer = append(m.answer[:0], p...)
	return len(p), nil
}

func (m *memory) Close() error {
	select {
	case <-m.closed:
	default:
		close(m.closed)
	}
	return nil
}

func (m *memory) LocalAddr() net.Addr              { return &net.UDPAddr{IP: net.IP{127, 0, 0, 1}, Port: 3478} }
func (m *memory) SetDeadline(time.Time) error      { return nil }
func (m *memory) SetReadDeadline(time.Time) error  { return nil }
func (m *memory) SetWriteDeadline(time.Time) error { return nil }

// put has the server work on a datagram, and returns when it has: when it reads
// the one after, which is nothing.
func (m *memory) put(b []byte) []byte {
	from := &net.UDPAddr{IP: net.IP{127, 0, 0, 1}, Port: m.port}
	m.answer = nil
	m.in <- datagram{b, from}
	m.in <- datagram{nil, from}
	return m.answer
}

// quiet is a server that sends nothing to anybody: no byte may be relayed.
func quiet(packets ...net.PacketConn) Config {
	return Config{
		Secret: make([]byte, 32), Node: protocol.NodeID{1}, Packets: packets, TURN: true, Log: slog.New(slog.DiscardHandler),
		Quota: Quota{NodeRate: 1, Requests: -1, PeerNew: -1},
	}
}

// FuzzDatagrams sends a few datagrams to a server, of which those that are
// requests of STUN are signed first with good credentials if sign says so, by one
// bit each.
func FuzzDatagrams(f *testing.F) {
	build := func(parts ...stun.Setter) []byte {
		msg, err := stun.Build(append([]stun.Setter{stun.NewTransactionIDSetter([12]byte{1})}, parts...)...)
		must(f, err)
		return append(binary.BigEndian.AppendUint16(nil, uint16(len(msg.Raw))), msg.Raw...)
	}
	typ := func(m stun.Method) stun.Setter { return stun.NewType(m, stun.ClassRequest) }
	peer := peerAt(netip.MustParseAddrPort("9.9.9.9:4000"))
	allocate := build(typ(stun.MethodAllocate), requestUDP())
	f.Add(byte(0), build(stun.BindingRequest))
	f.Add(byte(0), build(stun.BindingSuccess))
	f.Add(byte(0xff), bytes.Join([][]byte{
		allocate, build(typ(stun.MethodCreatePermission), peer), build(typ(stun.MethodChannelBind), peer, channelNumber(0x4000)),
		{0, 8, 0x40, 0, 0, 4, 1, 2, 3, 4},
		build(stun.NewType(stun.MethodSend, stun.ClassIndication), peer, attr{stun.AttrData, []byte("data")}),
		build(typ(stun.MethodRefresh), attr{stun.AttrLifetime, make([]byte, 4)}),
	}, nil))
	f.Add(byte(1), build(typ(stun.MethodAllocate), requestUDP(), family(2), attr{stun.AttrDontFragment, nil}))
	f.Add(byte(1), build(typ(stun.MethodAllocate), requestUDP(), attr{stun.AttrEvenPort, []byte{0x80}}))
	f.Add(byte(1), build(typ(stun.MethodAllocate), attr{stun.AttrRequestedTransport, []byte{6, 0, 0, 0}}))
	f.Add(byte(3), append(append([]byte(nil), allocate...), build(typ(stun.MethodConnect), peer)...))

	m := &memory{in: make(chan datagram), port: 9, closed: make(chan struct{})}
	s, err := New(quiet(m))
	must(f, err)
	stop := start(f, s)
	f.Cleanup(stop)
	r := raw{t: f}
	r.user, r.password = s.Credentials([]byte("fuzz"))
	hello := &stun.Message{Raw: m.put(build(typ(stun.MethodAllocate), requestUDP())[2:])}
	must(f, hello.Decode())
	must(f, r.nonce.GetFrom(hello))

	f.Fuzz(func(t *testing.T, sign byte, b []byte) {
		m.port = 1024 + int(time.Now().UnixNano()%60_000)
		for range 8 {
			if len(b) < 2 {
				break
			}
			n := min(int(binary.BigEndian.Uint16(b)), len(b)-2)
			p := b[2 : 2+n]
			b = b[2+n:]
			if sign&1 != 0 {
				p = signed(p, &r)
			}
			sign >>= 1
			if answer := m.put(p); len(answer) > 200+len(p) {
				t.Errorf("%d bytes are answered by %d", len(p), len(answer))
			}
		}
		// Give back what was allocated.
		msg, err := stun.Build(stun.TransactionID, typ(stun.MethodRefresh), attr{stun.AttrLifetime, make([]byte, 4)})
		must(t, err)
		m.put(signed(msg.Raw, &r))
		if st := s.Stats(); st.Allocations != 0 || st.BytesIn != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// signed adds credentials to a request, if it is one.
func signed(p []byte, r *raw) []byte {
	msg := &stun.Message{Raw: append([]byte(nil), p...)}
	if msg.Decode() != nil || msg.Type.Class != stun.ClassRequest || len(p) > 1200 {
		return p
	}
	for _, a := range []stun.Setter{stun.NewUsername(r.user), stun.NewRealm(Realm), r.nonce, r.key()} {
		if a.AddTo(msg) != nil {
			return p
		}
	}
	return msg.Raw
}

// start serves until it is told to stop.
func start(t testing.TB, s *Server) (stop func()) {
	ctx, cancel := contextOf(t)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(ctx) }()
	waitServing(t, s)
	return func() { cancel(); <-done }
}

// bytesConn is a connection on which something comes, and then its end.
type bytesConn struct {
	pipe
	r io.Reader
}

func (c *bytesConn) Read(p []byte) (int, error)       { return c.r.Read(p) }
func (c *bytesConn) Write(p []byte) (int, error)      { return len(p), nil }
func (c *bytesConn) Close() error                     { return nil }
func (c *bytesConn) SetDeadline(time.Time) error      { return nil }
func (c *bytesConn) SetReadDeadline(time.Time) error  { return nil }
func (c *bytesConn) SetWriteDeadline(time.Time) error { return nil }

func FuzzStream(f *testing.F) {
	msg, err := stun.Build(stun.TransactionID, stun.BindingRequest)
	must(f, err)
	f.Add(msg.Raw, 7)
	f.Add(append(msg.Raw, 0x40, 0, 0, 1, 'x', 0, 0, 0), 1)
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), 100)
	s, err := New(quiet())
	must(f, err)
	stop := start(f, s)
	f.Cleanup(stop)
	f.Fuzz(func(t *testing.T, b []byte, piece int) {
		// The frames are the same in whatever pieces they come.
		whole, pieces := frames(bytes.NewReader(b)), frames(&inPieces{b, max(1, piece)})
		if len(whole) != len(pieces) {
			t.Fatalf("%d frames, and in pieces %d", len(whole), len(pieces))
		}
		left := b
		for i, p := range whole {
			if !bytes.Equal(p, pieces[i]) || !bytes.HasPrefix(left, p) {
				t.Fatalf("frame %d is %x and in pieces %x", i, p, pieces[i])
			}
			left = left[len(p):]
		}
		s.ServeConn(&bytesConn{r: &inPieces{b, max(1, piece)}})
		eventually(t, "the connection ends", func() bool { return s.Stats().Conns == 0 })
	})
}

func frames(r io.Reader) (list [][]byte) {
	st, _ := newStream(&bytesConn{r: r})
	st.idle = func() time.Duration { return time.Hour }
	buf := make([]byte, maxDatagram)
	for {
		n, _, err := st.ReadFrom(buf)
		if err != nil {
			return list
		}
		list = append(list, append([]byte(nil), buf[:n]...))
	}
}

type inPieces struct {
	b []byte
	n int
}

func (r *inPieces) Read(p []byte) (int, error) {
	if len(r.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), r.n)], r.b)
	r.b = r.b[n:]
	return n, nil
}

// FuzzUser has one spelling of each user name.
func FuzzUser(f *testing.F) {
	s, err := New(Config{})
	must(f, err)
	name, _ := s.Credentials([]byte("alice"))
	f.Add(name)
	f.Add("1:y:0")
	f.Fuzz(func(t *testing.T, name string) {
		front := newFront(s, nil, true)
		front.request.at = time.Now()
		if _, _, ok := front.auth(&turn.RequestAttributes{Username: name, Realm: Realm}); !ok {
			return
		}
		u, ok := parseUser(name)
		if left := time.Until(time.Unix(u.expiry, 0)); !ok || left > protocol.ICETTL+protocol.ICEAhead || left < -time.Minute {
			t.Errorf("%q is let in for %v", name, left)
		}
	})
}
