package ice

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/stun/v4"
)

// front stands between one socket, or one connection, and a pion/turn server of
// its own. What comes in is looked at here first: Binding requests are answered,
// and what is malformed, too often or of nobody goes no further.
//
// That server has one goroutine, which reads a message, calls the hooks (see
// hooks.go), writes its answer, and reads the next. So the hooks know which
// message they are called for: it is the front's request.
type front struct {
	s    *Server
	conn net.PacketConn // UDP, or a stream
	udp  bool

	ended func() // called once, when nothing more is read

	// Owned by the read loop.
	request request

	mu     sync.Mutex
	relays map[netip.AddrPort]*relay // by client
}

// request is the message that pion/turn works on.
type request struct {
	msg    *stun.Message // nil: none, or one that has no answer
	from   netip.AddrPort
	at     time.Time
	relay  *relay // of the client, nil: it has none
	user   user
	key    []byte // of the user, for the integrity of messages
	proven bool   // the message has it
	lease  *lease // that was taken, and no allocation made with yet
	code   stun.ErrorCode
}

func newFront(s *Server, conn net.PacketConn, udp bool) *front {
	return &front{s: s, conn: conn, udp: udp, relays: make(map[netip.AddrPort]*relay)}
}

// ReadFrom gives the next message that pion/turn is to work on.
func (f *front) ReadFrom(p []byte) (int, net.Addr, error) {
	f.finish()
	for {
		n, addr, err := f.conn.ReadFrom(p)
		if err != nil {
			if f.udp && !errors.Is(err, net.ErrClosed) && !f.s.stopped() {
				time.Sleep(time.Millisecond) // an error of one datagram, on some systems
				continue
			}
			f.conn.Close()
			f.ended()
			return 0, nil, err
		}
		from := addrPort(addr)
		if why := f.admit(p[:n], from, addr); why != fine {
			f.s.count.refuse(why)
			continue
		}
		if f.request.from.IsValid() {
			return n, addr, nil
		}
	}
}

// finish forgets the request that has been worked on.
func (f *front) finish() {
	if f.request.lease != nil {
		f.request.lease.release()
	}
	f.request = request{}
}

// admit looks at what has come in. What pion/turn is to see becomes the request.
func (f *front) admit(p []byte, from netip.AddrPort, addr net.Addr) reason {
	if len(p) < 4 || !from.IsValid() {
		return malformed
	}
	if p[0]>>6 == 1 { // ChannelData
		if f.relayOf(from) == nil {
			return stray
		}
		f.request = request{from: from}
		return fine
	}
	if p[0]>>6 != 0 || !stun.IsMessage(p) || len(p) != 20+int(binary.BigEndian.Uint16(p[2:])) {
		return malformed
	}
	var typ stun.MessageType
	typ.ReadValue(binary.BigEndian.Uint16(p))
	switch {
	case typ == stun.BindingRequest:
		return f.bind(p, from, addr)
	case typ == stun.BindingSuccess || typ == stun.BindingError:
		return f.s.asked.answer(p, from)
	case typ == stun.NewType(stun.MethodBinding, stun.ClassIndication):
		return fine // keeps a NAT's mapping alive, and wants nothing
	case !f.s.cfg.TURN:
		return malformed
	case typ == stun.NewType(stun.MethodSend, stun.ClassIndication):
		if f.relayOf(from) == nil {
			return stray
		}
		f.request = request{from: from}
		return fine
	case typ.Class == stun.ClassRequest:
		return f.ask(p, typ.Method, from)
	}
	return malformed
}

// ask admits a request of TURN.
func (f *front) ask(p []byte, method stun.Method, from netip.AddrPort) reason {
	now := time.Now()
	r := f.relayOf(from)
	switch {
	case r == nil && !f.s.pacer.admit(from, now):
		return overRequests
	case r != nil && !r.control.take(now, 1, controlRate, controlBurst):
		return overRequests
	}
	switch method {
	case stun.MethodAllocate, stun.MethodRefresh:
	case stun.MethodCreatePermission, stun.MethodChannelBind:
		// pion/turn 5.1.1 makes a permission known before its timer, which an
		// allocation that ends at that moment stops: a crash. It goes by time.
		if r != nil && r.expiry.Sub(now) < expiryMargin {
			return malformed
		}
	default:
		return malformed
	}
	msg := &stun.Message{Raw: append([]byte(nil), p...)}
	if msg.Decode() != nil {
		return malformed
	}
	f.request = request{msg: msg, from: from, at: now, relay: r}
	return fine
}

// bind answers a Binding request. The answer is not much larger, lest forged
// requests make others be flooded.
func (f *front) bind(p []byte, from netip.AddrPort, addr net.Addr) reason {
	if !f.s.pacer.admit(from, time.Now()) {
		return overRequests
	}
	msg := &stun.Message{Raw: append([]byte(nil), p...)}
	if msg.Decode() != nil {
		return malformed
	}
	parts := []stun.Setter{stun.NewTransactionIDSetter(msg.TransactionID), stun.BindingSuccess, &stun.XORMappedAddress{IP: from.Addr().AsSlice(), Port: int(from.Port())}}
	var unknown stun.UnknownAttributes
	for _, a := range msg.Attributes {
		if a.Type.Required() && !a.Type.Known() {
			unknown = append(unknown, a.Type)
		}
	}
	if len(unknown) > 0 {
		parts = []stun.Setter{parts[0], stun.BindingError, stun.ErrorCodeAttribute{Code: stun.CodeUnknownAttribute}, unknown}
	}
	if msg.Contains(stun.AttrFingerprint) {
		parts = append(parts, stun.Fingerprint)
	}
	answer, err := stun.Build(parts...)
	if err != nil {
		return malformed
	}
	if _, err := f.conn.WriteTo(answer.Raw, addr); err != nil {
		return unsent
	}
	f.s.count.bindings.Add(1)
	return fine
}

// WriteTo sends to a client. Relays call it too, for what peers have sent.
func (f *front) WriteTo(p []byte, to net.Addr) (int, error) {
	if len(p) < 2 || !isResponse(p) {
		return f.conn.WriteTo(p, to)
	}
	answer := f.settle(p)
	if _, err := f.conn.WriteTo(answer, to); err != nil {
		return 0, err
	}
	return len(p), nil
}

// isResponse says whether a message of STUN is a success or an error. Only the
// read loop writes these.
func isResponse(p []byte) bool { return p[0]>>6 == 0 && p[0]&1 != 0 }

func (f *front) relayOf(client netip.AddrPort) *relay {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.relays[client]
}

func (f *front) remember(r *relay) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.relays[r.client] = r
}

func (f *front) forget(r *relay) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.relays[r.client] == r {
		delete(f.relays, r.client)
	}
}

// busy says whether a client has an allocation here.
func (f *front) busy() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.relays) > 0
}

func (f *front) LocalAddr() net.Addr                { return f.conn.LocalAddr() }
func (f *front) Close() error                       { return f.conn.Close() }
func (f *front) SetDeadline(t time.Time) error      { return f.conn.SetDeadline(t) }
func (f *front) SetReadDeadline(t time.Time) error  { return f.conn.SetReadDeadline(t) }
func (f *front) SetWriteDeadline(t time.Time) error { return f.conn.SetWriteDeadline(t) }
