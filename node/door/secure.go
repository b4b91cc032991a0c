package door

import (
	"crypto/tls"
	"io"
	"net"
	"sync"
	"time"
)

// What TLS handshakes may take. One costs some 30 KB while it is under way.
const (
	handshakeWithin   = 10 * time.Second
	maxHandshakes     = 512             // at a time; who comes then waits
	handshakePatience = 2 * time.Second // one this old makes way for who waits
)

// handshakeRecord is the first byte of TLS.
const handshakeRecord = 22

// acmeTLS is the protocol of a CA that looks whether a host name leads here. It
// ends with the handshake: RFC 8737.
const acmeTLS = "acme-tls/1"

// handshakes are those under way. They are bounded, and when there are too many
// the slowest make way: those who stall keep nobody out.
type handshakes struct {
	slots chan struct{}

	mu    sync.Mutex
	began map[net.Conn]time.Time
}

func newHandshakes() *handshakes {
	return &handshakes{slots: make(chan struct{}, maxHandshakes), began: make(map[net.Conn]time.Time)}
}

// do is the handshake of a server. The connection is the caller's to close.
func (s *handshakes) do(c net.Conn, cfg *tls.Config) (*tls.Conn, error) {
	s.begin(c)
	defer s.end(c)
	c.SetDeadline(time.Now().Add(handshakeWithin))
	tc := tls.Server(c, cfg)
	if err := tc.Handshake(); err != nil { //nolint:noctx // it has a deadline, and ends when the connection is closed
		return nil, err
	}
	c.SetDeadline(time.Time{})
	return tc, nil
}

func (s *handshakes) begin(c net.Conn) {
	select {
	case s.slots <- struct{}{}:
	default:
		s.wait()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.began[c] = time.Now()
}

// wait waits for a slot, and asks the slowest for theirs.
func (s *handshakes) wait() {
	tick := time.NewTicker(handshakePatience / 8)
	defer tick.Stop()
	for {
		select {
		case s.slots <- struct{}{}:
			return
		case now := <-tick.C:
			s.hangUp(now)
		}
	}
}

// hangUp closes the slowest, if it is slow.
func (s *handshakes) hangUp(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var slowest net.Conn
	for c, t := range s.began {
		if slowest == nil || t.Before(s.began[slowest]) {
			slowest = c
		}
	}
	if slowest != nil && now.Sub(s.began[slowest]) > handshakePatience {
		delete(s.began, slowest)
		slowest.Close()
	}
}

func (s *handshakes) end(c net.Conn) {
	s.mu.Lock()
	delete(s.began, c)
	s.mu.Unlock()
	<-s.slots
}

// unwrap takes TLS off a connection, and gives it to net/http or to STUN.
func (f *front) unwrap(hc *hotConn) {
	first := hc.in.b[hc.pos]
	if first != handshakeRecord {
		if first < firstOther {
			f.hand(hc, first)
			return
		}
		hc.refusePlain(first)
		return
	}
	if !f.host.awaitMore(hc) {
		hc.drop()
		return
	}
	c, err := f.host.shakes.do(hc, f.port.TLS)
	if err != nil {
		f.host.totals.failedTLS.Add(1)
		f.host.awaited(hc)
		hc.drop()
		return
	}
	p := &peeked{Conn: c}
	goesOn := c.ConnectionState().NegotiatedProtocol != acmeTLS && p.peek() == nil
	if !f.host.awaited(hc) || !goesOn {
		hc.drop()
		return
	}
	f.hand(p, p.first)
}

// refusePlain says what the port speaks, to who seems to speak HTTP.
func (hc *hotConn) refusePlain(first byte) {
	if first >= 'A' && first <= 'Z' {
		hc.SetWriteDeadline(time.Now().Add(firstWithin))
		_, _ = io.WriteString(hc, "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"+
			"This port speaks TLS: use https:// or wss:// instead of http:// or ws://.\n")
	}
	hc.drop()
}

// peeked is a connection of which one byte was read already.
type peeked struct {
	*tls.Conn
	first byte
	has   bool
}

func (p *peeked) peek() error {
	var b [1]byte
	_, err := io.ReadFull(p.Conn, b[:])
	p.first, p.has = b[0], err == nil
	return err
}

// Read is called by one goroutine.
func (p *peeked) Read(b []byte) (int, error) {
	if p.has && len(b) > 0 {
		p.has = false
		b[0] = p.first
		return 1, nil
	}
	return p.Conn.Read(b)
}
