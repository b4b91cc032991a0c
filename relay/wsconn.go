package relay

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"github.com/peerservers/peerserver/protocol"
)

const (
	linkPath     = "/link"
	linkProtocol = "peerserver.link.1"

	// linkReadBuffer drains several packets with one read; a larger packet
	// goes past it, straight into its own buffer.
	linkReadBuffer = 16 << 10
	// closeWait is for the last message and the close frame. It is as long as a
	// machine may take to come round to a goroutine: nobody important waits.
	closeWait = 5 * time.Second
	// upgradeBytes bounds what a server may send before the link is up: its
	// certificates and the headers of its answer.
	upgradeBytes = 64 << 10
)

// Close codes of RFC 6455 that a link uses beside those in protocol.
const (
	closeGoingAway = websocket.CloseGoingAway
	closeText      = websocket.CloseUnsupportedData
	closeTooBig    = websocket.CloseMessageTooBig
)

// Links share these: one that is idle holds no buffer. received has one byte
// more than a message, to tell the end of one from its limit.
var (
	written  sync.Pool
	received = sync.Pool{New: func() any { return new([protocol.MaxNoise + 1]byte) }}
)

// closeError is the end of a Conn that the other side asked for.
type closeError struct{ code int }

func (e *closeError) Error() string { return fmt.Sprintf("the other node closed with code %d", e.code) }

// closeCode is the WebSocket close code with which the other side ended a
// Conn, 0 when it ended in another way.
func closeCode(err error) int {
	if e, ok := errors.AsType[*closeError](err); ok {
		return e.code
	}
	return 0
}

// wsConn is a Conn over a WebSocket.
type wsConn struct {
	// Static.
	ws       *websocket.Conn
	writeFor time.Duration // until a write fails
	closeFor time.Duration // until Close hangs up
	onProved func()        // nil of a Conn that was accepted
	from     net.Addr      // what the request says, nil of a Conn that was dialled

	once   sync.Once
	closed atomic.Bool

	// Owned by the reader.
	buf *[protocol.MaxNoise + 1]byte
	err error // the end

	writing chan struct{} // full while Write writes, or Close its frame
}

func newWSConn(ws *websocket.Conn) *wsConn {
	c := &wsConn{ws: ws, writeFor: protocol.LinkSilence, closeFor: closeWait, writing: make(chan struct{}, 1)}
	c.limitRead(protocol.MaxNoise)
	return c
}

// proved says that a node's handshake has succeeded here.
func (c *wsConn) proved() {
	if c.onProved != nil {
		c.onProved()
	}
}

// RemoteAddr is the other end's address, or that of a proxy before it.
func (c *wsConn) RemoteAddr() net.Addr {
	if c.from != nil {
		return c.from
	}
	return c.ws.RemoteAddr()
}

func (c *wsConn) limitRead(n int) { c.ws.SetReadLimit(int64(n)) }

// Read returns the next binary message. The caller may change it until the
// next Read. An error is the last: a *protocol.Error when the other side broke
// the rules, a *closeError when it closed.
func (c *wsConn) Read() ([]byte, error) {
	if c.buf != nil {
		received.Put(c.buf)
		c.buf = nil
	}
	if c.err != nil {
		return nil, c.err
	}
	message, err := c.read()
	if err != nil {
		c.err = c.reason(err)
		return nil, c.err
	}
	return message, nil
}

func (c *wsConn) read() ([]byte, error) {
	kind, r, err := c.ws.NextReader()
	if err != nil {
		return nil, err
	}
	if kind != websocket.BinaryMessage {
		c.Close(closeText)
		return nil, protocol.Errorf(protocol.CodeMalformed, "a text frame on a link")
	}
	c.buf = received.Get().(*[protocol.MaxNoise + 1]byte)
	n := 0
	for n < len(c.buf) {
		m, err := r.Read(c.buf[n:])
		n += m
		if err == io.EOF {
			return c.buf[:n], nil
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, websocket.ErrReadLimit
}

// Write sends one message, within protocol.LinkSilence: a node that takes
// nothing for so long is dead.
func (c *wsConn) Write(message []byte) error {
	if len(message) > protocol.MaxNoise {
		return protocol.Errorf(protocol.CodeTooLarge, "a message of %d bytes is over %d", len(message), protocol.MaxNoise)
	}
	c.writing <- struct{}{}
	defer func() { <-c.writing }()
	if c.closed.Load() {
		return net.ErrClosed
	}
	if err := c.ws.SetWriteDeadline(time.Now().Add(c.writeFor)); err != nil {
		return c.reason(err)
	}
	if err := c.ws.WriteMessage(websocket.BinaryMessage, message); err != nil {
		return c.reason(err)
	}
	return nil
}

// Close ends Read at once, lets a Write that is under way end, sends a close
// frame and hangs up. While the other side takes nothing it waits, and Write with
// it, but no longer than closeWait.
func (c *wsConn) Close(code int) {
	c.once.Do(func() {
		c.closed.Store(true)
		_ = c.ws.SetReadDeadline(time.Unix(1, 0))
		hungUp := make(chan struct{})
		late := time.AfterFunc(c.closeFor, func() {
			defer close(hungUp)
			_ = socket(c.ws.NetConn()).Close() // which ends what is stuck below
		})
		c.writing <- struct{}{}
		_ = c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, ""), time.Time{})
		<-c.writing
		_ = c.ws.Close()
		if !late.Stop() {
			<-hungUp
		}
	})
}

// socket is what is below TLS, whose own Close would write, and wait.
func socket(c net.Conn) net.Conn {
	for {
		w, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return c
		}
		c = w.NetConn()
	}
}

// reason is what callers are told for an error of gorilla or the network.
func (c *wsConn) reason(err error) error {
	var closing *websocket.CloseError
	switch {
	case errors.Is(err, websocket.ErrReadLimit):
		return protocol.Errorf(protocol.CodeTooLarge, "a message is over the limit")
	case errors.As(err, &closing) && closing.Code == websocket.CloseAbnormalClosure: // its word for no close frame
		err = io.ErrUnexpectedEOF
	case errors.As(err, &closing):
		return &closeError{closing.Code}
	}
	var e *protocol.Error
	if c.closed.Load() && !errors.As(err, &e) {
		return net.ErrClosed
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() { // gorilla keeps only its text, addresses included
		return os.ErrDeadlineExceeded
	}
	return bare(err)
}

// bare takes the addresses off an error, which may end up in a log.
func bare(err error) error {
	if e, ok := errors.AsType[*protocol.Error](err); ok {
		return e
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return errors.New("lookup: " + dns.Err)
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return fmt.Errorf("%s: %w", op.Op, op.Err)
	}
	return err
}

// acceptWS makes a Conn of a request for linkPath. On an error it has
// answered the request.
func acceptWS(w http.ResponseWriter, r *http.Request) (Conn, error) {
	if len(r.Header["Origin"]) > 0 { // no browser has business on a link
		http.Error(w, "a link is for nodes", http.StatusForbidden)
		return nil, protocol.Errorf(protocol.CodeDenied, "link asked for by a web page")
	}
	upgrader := websocket.Upgrader{
		HandshakeTimeout: protocol.Handshake, Subprotocols: []string{linkProtocol},
		ReadBufferSize: linkReadBuffer, WriteBufferSize: protocol.MaxNoise, WriteBufferPool: &written,
	}
	if !websocket.IsWebSocketUpgrade(r) || !offersLink(r) {
		http.Error(w, "this is where nodes link, with WebSocket subprotocol "+linkProtocol, http.StatusBadRequest)
		return nil, protocol.Errorf(protocol.CodeMalformed, "link asked for without its subprotocol")
	}
	ws, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return nil, bare(err)
	}
	c := newWSConn(ws)
	if at, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		c.from = net.TCPAddrFromAddrPort(at)
	}
	return c, nil
}

func offersLink(r *http.Request) bool {
	return slices.Contains(websocket.Subprotocols(r), linkProtocol)
}

type wsDialer struct {
	policy DialPolicy
	seen   *places
}

// NewDialer is the Dialer of a node: WebSocket under the policy, without
// proxies and redirects. A dial takes at most protocol.Handshake.
func NewDialer(p DialPolicy) Dialer {
	if p.TLS == nil {
		p.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	p.TLS = p.TLS.Clone()
	p.TLS.NextProtos = []string{"http/1.1"} // a WebSocket needs it, a shared config may say h2
	return &wsDialer{policy: p, seen: newPlaces()}
}

func (d *wsDialer) Dial(ctx context.Context, url protocol.LinkURL) (Conn, error) {
	return d.dial(ctx, url, netip.Addr{})
}

// DialAt looks the host up, so that a name is dialled at the address only if it
// has it.
func (d *wsDialer) DialAt(ctx context.Context, url protocol.LinkURL, at netip.Addr) (Conn, error) {
	has, err := d.hasAddress(ctx, url.Host, at)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", bare(err))
	}
	if !has {
		return nil, protocol.Errorf(protocol.CodeRefused, "dial: the URL's host does not have that address")
	}
	return d.dial(ctx, url, at)
}

func (d *wsDialer) hasAddress(ctx context.Context, host string, at netip.Addr) (bool, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap() == at, nil
	}
	ctx, cancel := context.WithTimeout(ctx, protocol.Handshake)
	defer cancel()
	resolver := d.policy.Resolver
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	addrs, err := resolver.LookupNetIP(ctx, "ip", host)
	return slices.ContainsFunc(addrs, func(a netip.Addr) bool { return a.Unmap() == at }), err
}

// dial opens a link at the one address, or if that is not valid at those of the
// URL's host.
func (d *wsDialer) dial(ctx context.Context, url protocol.LinkURL, at netip.Addr) (Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, protocol.Handshake)
	defer cancel()
	tcp := net.Dialer{Resolver: d.policy.Resolver, ControlContext: d.policy.control(d.seen, url.String())}
	var opened *boundedConn
	stop := func() bool { return true }
	dialer := websocket.Dialer{
		NetDialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if at.IsValid() {
				addr = netip.AddrPortFrom(at, url.Port).String()
			}
			c, err := tcp.DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			opened = &boundedConn{Conn: c, left: upgradeBytes}
			// gorilla keeps to a deadline, but not to a cancellation.
			stop = context.AfterFunc(ctx, func() { _ = c.Close() })
			return opened, nil
		},
		TLSClientConfig: d.policy.TLS, Subprotocols: []string{linkProtocol},
		ReadBufferSize: linkReadBuffer, WriteBufferSize: protocol.MaxNoise, WriteBufferPool: &written,
	}
	ws, answer, err := dialer.DialContext(ctx, url.String()+linkPath, nil) //nolint:bodyclose // gorilla has read it
	if !stop() && err == nil {
		_ = ws.Close()
		err = context.Cause(ctx)
	}
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("dial: %w", context.Cause(ctx))
	case errors.Is(err, websocket.ErrBadHandshake):
		return nil, protocol.Errorf(protocol.CodeMalformed, "dial: there is no link, HTTP status %d", answer.StatusCode)
	case err != nil:
		return nil, dialError(err)
	}
	// gorilla takes compression that it has not asked for, and with it
	// messages that unfold past the read limit.
	if ws.Subprotocol() != linkProtocol || len(answer.Header["Sec-Websocket-Extensions"]) > 0 {
		_ = ws.Close()
		return nil, protocol.Errorf(protocol.CodeMalformed, "dial: a WebSocket is there, but not a link")
	}
	opened.left = -1
	c := newWSConn(ws)
	c.onProved = func() { d.seen.proved(ws.RemoteAddr()) }
	return c, nil
}

// dialError is what callers are told: never an address, nor what a stranger
// has written where HTTP should be.
func dialError(err error) error {
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return errors.New("dial: the certificate is of another host")
	}
	var (
		e       *protocol.Error
		network *net.OpError
		dns     *net.DNSError
		cert    *tls.CertificateVerificationError
		record  tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &e):
		return e
	case errors.As(err, &network), errors.As(err, &dns):
		return fmt.Errorf("dial: %w", bare(err))
	case errors.As(err, &cert), errors.As(err, &record), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("dial: %w", err)
	}
	return protocol.Errorf(protocol.CodeMalformed, "dial: what answers does not speak HTTP")
}

// boundedConn reads at most left bytes, any number when left is negative.
type boundedConn struct {
	net.Conn
	left int // Owned by the dialler, later by the reader.
}

func (c *boundedConn) Read(b []byte) (int, error) {
	if c.left < 0 {
		return c.Conn.Read(b)
	}
	if c.left == 0 {
		return 0, protocol.Errorf(protocol.CodeTooLarge, "dial: the answer is over %d bytes", upgradeBytes)
	}
	n, err := c.Conn.Read(b[:min(len(b), c.left)])
	c.left -= n
	return n, err
}
