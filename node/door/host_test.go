package door

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/peerservers/peerserver/protocol"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// scene is a Host behind a port, whose one door sends back what it gets and
// remembers its sessions.
type scene struct {
	t    *testing.T
	host *Host
	url  string

	mu       sync.Mutex
	sessions []*echo
	root     http.HandlerFunc // serves /root
}

// echo is a session that sends back what it gets.
type echo struct {
	c       *Conn
	mu      sync.Mutex
	refused []protocol.Code
	swept   int
	closed  int
}

func (e *echo) Message(b []byte) {
	if out, ok := e.c.Begin(); ok {
		e.c.End(append(out, b...), Reply)
	}
}

func (e *echo) Refuse(code protocol.Code) {
	e.mu.Lock()
	e.refused = append(e.refused, code)
	e.mu.Unlock()
	e.Message([]byte("refused " + code.String()))
}

func (e *echo) Sweep(time.Time) { e.mu.Lock(); e.swept++; e.mu.Unlock() }

func (e *echo) Closed() { e.mu.Lock(); e.closed++; e.mu.Unlock() }

// way is how a scene's clients come in.
type way string

const (
	overFront way = "front"
	overHTTP  way = "http" // all through net/http
	overTLS   way = "tls"
)

// serve runs a Host, and checks at the end of the test that it leaves no
// goroutine.
func serve(t *testing.T, cfg Config, over way) *scene {
	t.Helper()
	before := runtime.NumGoroutine()
	s := &scene{t: t, host: NewHost(cfg)}
	handler := http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/root" {
			s.mu.Lock()
			root := s.root
			s.mu.Unlock()
			root(w, q)
			return
		}
		if token, ok := strings.CutPrefix(q.URL.Path, "/t/"); ok {
			q = WithToken(q, token)
		}
		socket := Socket{Binary: q.URL.Path == "/binary", Token: q.FormValue("key"), Deny: func(c *Conn, reason string) {
			if out, ok := c.Begin(); ok {
				c.End(append(out, "you may not: "+reason...), Reply)
			}
		}}
		s.host.Upgrade(w, q, socket, func(c *Conn) Session {
			e := &echo{c: c}
			s.mu.Lock()
			s.sessions = append(s.sessions, e)
			s.mu.Unlock()
			return e
		})
	})
	server := httptest.NewUnstartedServer(handler)
	if over == overFront {
		server.Listener = s.host.Front(server.Listener, handler)
	} else {
		server.Listener = s.host.Listen(server.Listener)
	}
	if over == overTLS {
		server.StartTLS()
		s.url = "wss" + strings.TrimPrefix(server.URL, "https")
	} else {
		server.Start()
		s.url = "ws" + strings.TrimPrefix(server.URL, "http")
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.host.Serve(ctx) }()
	t.Cleanup(func() {
		stop()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Error("the host did not end")
		}
		server.Close()
		s.mu.Lock()
		for _, e := range s.sessions {
			if e.closed != 1 {
				t.Errorf("a session was closed %d times", e.closed)
			}
		}
		s.mu.Unlock()
		http.DefaultClient.CloseIdleConnections()
		eventually(t, func() bool { return runtime.NumGoroutine() <= before }, "goroutines are left over")
	})
	return s
}

func eventually(t testing.TB, ok func() bool, what string) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			b := make([]byte, 1<<20)
			t.Logf("%s", b[:runtime.Stack(b, true)])
			t.Fatal(what)
		}
	}
}

var insecure = websocket.Dialer{TLSClientConfig: insecureTLS()}

func (s *scene) tryDial(header http.Header) (*websocket.Conn, *http.Response, error) {
	return insecure.Dial(s.url, header)
}

func (s *scene) dial() *websocket.Conn {
	s.t.Helper()
	before := s.count()
	ws, _, err := s.tryDial(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { ws.Close() })
	// The client may be told before the node has set the session up.
	eventually(s.t, func() bool { return s.count() > before }, "no session")
	ws.SetReadDeadline(time.Now().Add(patience))
	return ws
}

func (s *scene) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

// session is the last one that came.
func (s *scene) session() *echo {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions[len(s.sessions)-1]
}

func say(t *testing.T, ws *websocket.Conn, text string) {
	t.Helper()
	if err := ws.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

func hear(t *testing.T, ws *websocket.Conn) string {
	t.Helper()
	kind, b, err := ws.ReadMessage()
	if err != nil {
		t.Fatal(err)
	}
	if kind != websocket.TextMessage {
		t.Fatalf("a frame of type %d", kind)
	}
	return string(b)
}

// closedWith reads to the end and checks how the node closed.
func closedWith(t *testing.T, ws *websocket.Conn, code int) {
	t.Helper()
	for {
		_, _, err := ws.ReadMessage()
		var end *websocket.CloseError
		switch {
		case err == nil:
		case errors.As(err, &end) && end.Code == code:
			return
		default:
			t.Fatalf("ended with %v, want close code %d", err, code)
		}
	}
}

func overAll(t *testing.T, cfg Config, f func(t *testing.T, s *scene)) {
	for _, over := range []way{overFront, overHTTP, overTLS} {
		t.Run(string(over), func(t *testing.T) { f(t, serve(t, cfg, over)) })
	}
}

func TestMessagesOfAllSizes(t *testing.T) {
	overAll(t, Config{}, func(t *testing.T, s *scene) {
		ws := s.dial()
		for _, n := range []int{0, 1, 125, 126, 127, 1000, readSize - 1, readSize, readSize + 1, 3 * readSize, maxMessage} {
			want := strings.Repeat("é", n/2) + strings.Repeat("x", n%2)
			say(t, ws, want)
			if got := hear(t, ws); got != want {
				t.Fatalf("%d bytes came back as %d", len(want), len(got))
			}
		}
	})
}

func TestManyMessagesKeepTheirOrder(t *testing.T) {
	overAll(t, Config{AllowPrivate: true, Queue: 16 << 20}, func(t *testing.T, s *scene) {
		ws := s.dial()
		const n = 3000
		go func() {
			for i := range n {
				if ws.WriteMessage(websocket.TextMessage, []byte(strings.Repeat(string(rune('a'+i%26)), i))) != nil {
					return
				}
			}
		}()
		for i := range n {
			if got := hear(t, ws); got != strings.Repeat(string(rune('a'+i%26)), i) {
				t.Fatalf("message %d came back as another one, of %d bytes", i, len(got))
			}
		}
	})
}

func TestBinaryFrames(t *testing.T) {
	s := serve(t, Config{}, overFront)
	s.url += "/binary"
	ws := s.dial()
	if err := ws.WriteMessage(websocket.BinaryMessage, []byte{0, 1, 2}); err != nil {
		t.Fatal(err)
	}
	if kind, b, err := ws.ReadMessage(); err != nil || kind != websocket.BinaryMessage || string(b) != "\x00\x01\x02" {
		t.Fatal(kind, b, err)
	}
}

// Of a message that is too large nothing is read into memory, and the next one
// is heard. One that is much too large ends the connection.
func TestOversized(t *testing.T) {
	overAll(t, Config{}, func(t *testing.T, s *scene) {
		ws := s.dial()
		for _, n := range []int{maxMessage + 1, 300_000, hardLimit} {
			say(t, ws, strings.Repeat("x", n))
			if got := hear(t, ws); got != "refused too_large" {
				t.Fatalf("%d bytes: %s", n, got)
			}
			say(t, ws, "still there?")
			if got := hear(t, ws); got != "still there?" {
				t.Fatal(got)
			}
		}
		go ws.WriteMessage(websocket.TextMessage, make([]byte, hardLimit+1))
		closedWith(t, ws, websocket.CloseMessageTooBig)
	})
}

func TestFragmentsMakeOneMessage(t *testing.T) {
	overAll(t, Config{}, func(t *testing.T, s *scene) {
		ws := s.dial()
		raw := ws.NetConn()
		// "ab" and "cd" in two frames, a ping between them; masked with zeros.
		if _, err := raw.Write([]byte("\x01\x82\x00\x00\x00\x00ab\x89\x80\x00\x00\x00\x00\x80\x82\x00\x00\x00\x00cd")); err != nil {
			t.Fatal(err)
		}
		if got := hear(t, ws); got != "abcd" {
			t.Fatal(got)
		}
	})
}

func TestPing(t *testing.T) {
	overAll(t, Config{}, func(t *testing.T, s *scene) {
		ws := s.dial()
		pongs := make(chan string, 1)
		ws.SetPongHandler(func(data string) error { pongs <- data; return nil })
		if err := ws.WriteControl(websocket.PingMessage, []byte("hello"), time.Time{}); err != nil {
			t.Fatal(err)
		}
		say(t, ws, "x")
		hear(t, ws)
		if got := <-pongs; got != "hello" {
			t.Fatal(got)
		}
	})
}

func TestCloseIsAnswered(t *testing.T) {
	overAll(t, Config{}, func(t *testing.T, s *scene) {
		ws := s.dial()
		if err := ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, "bye"), time.Time{}); err != nil {
			t.Fatal(err)
		}
		closedWith(t, ws, websocket.CloseNormalClosure)
		eventually(t, func() bool { return s.host.Stats().Clients == 0 }, "the client is still counted")
	})
}

func TestProtocolErrorsEndOneConnectionOnly(t *testing.T) {
	overAll(t, Config{}, func(t *testing.T, s *scene) {
		other := s.dial()
		for _, frame := range []string{
			"\x81\x01x",                                                // not masked
			"\xf1\x80\x00\x00\x00\x00",                                 // reserved bits
			"\x80\x80\x00\x00\x00\x00",                                 // continues nothing
			"\x83\x80\x00\x00\x00\x00",                                 // unknown opcode
			"\x89\xfe\x00\x80\x00\x00\x00\x00",                         // a ping of 128 bytes
			"\x88\x82\x00\x00\x00\x00\x00\x00",                         // close code 0
			"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00", // a negative length
		} {
			ws := s.dial()
			if _, err := ws.NetConn().Write([]byte(frame)); err != nil {
				t.Fatal(err)
			}
			if _, _, err := ws.ReadMessage(); err == nil {
				t.Errorf("%q was accepted", frame)
			}
			say(t, other, "x")
			hear(t, other)
		}
		eventually(t, func() bool { return s.host.Stats().Clients == 1 }, "bad clients are still counted")
	})
}

// Half a frame holds nobody up, and ends when the host does.
func TestHalfFrames(t *testing.T) {
	overAll(t, Config{AllowPrivate: true}, func(t *testing.T, s *scene) {
		for _, half := range []string{"\x81", "\x81\xfe", "\x81\xfe\x10\x00\x00\x00\x00\x00abc", "\x01\x80\x00\x00\x00\x00"} {
			for range 20 {
				if _, err := s.dial().NetConn().Write([]byte(half)); err != nil {
					t.Fatal(err)
				}
			}
		}
		ws := s.dial()
		say(t, ws, "x")
		hear(t, ws)
	})
}

func TestDrain(t *testing.T) {
	overAll(t, Config{}, func(t *testing.T, s *scene) {
		clients := []*websocket.Conn{s.dial(), s.dial(), s.dial()}
		done := make(chan struct{})
		go func() {
			s.host.Drain(context.Background())
			close(done)
		}()
		for _, ws := range clients {
			closedWith(t, ws, protocol.CloseServiceRestart)
		}
		<-done
		if _, answer, err := s.tryDial(nil); err == nil || answer.StatusCode != http.StatusServiceUnavailable {
			t.Fatalf("a new client was taken: %v", err)
		}
	})
}

// After the end there are no new clients, whoever still listens.
func TestNoClientsAfterTheEnd(t *testing.T) {
	h := NewHost(Config{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		h.Upgrade(w, q, Socket{}, func(c *Conn) Session { return &echo{c: c} })
	}))
	defer server.Close()
	ctx, stop := context.WithCancel(context.Background())
	stop()
	if err := h.Serve(ctx); err != nil {
		t.Fatal(err)
	}
	_, answer, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(server.URL, "http"), nil)
	if err == nil || answer.StatusCode != http.StatusServiceUnavailable {
		t.Fatalf("a client was taken: %v", err)
	}
}

// dialRaw is a TCP connection that says nothing.
func (s *scene) dialRaw() net.Conn {
	s.t.Helper()
	c, err := net.Dial("tcp", s.url[strings.Index(s.url, "//")+2:])
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	c.SetReadDeadline(time.Now().Add(patience))
	return c
}

// Connections above an address's quota are closed at once, whether or not they
// ever ask for something; when one goes there is room again.
func TestConnectionFlood(t *testing.T) {
	overAll(t, Config{Quota: Quota{AddressConns: 5}}, func(t *testing.T, s *scene) {
		first := s.dial()
		var rest []net.Conn
		for range 4 {
			rest = append(rest, s.dialRaw())
		}
		for range 50 {
			if n, err := s.dialRaw().Read(make([]byte, 1)); n != 0 || err == nil {
				t.Fatal("a connection above the quota is kept")
			}
		}
		if got := s.host.Stats().RefusedConns; got != 50 {
			t.Errorf("%d refused, want 50", got)
		}
		say(t, first, "x")
		hear(t, first)
		rest[0].Close()
		eventually(t, func() bool {
			ws, _, err := s.tryDial(nil)
			if err == nil {
				ws.Close()
			}
			return err == nil
		}, "there is no room after a connection went")
	})
}

func TestQuotaIsOfOneAddressAndNotOnLoopback(t *testing.T) {
	s := serve(t, Config{Quota: Quota{AddressConns: 2}, AllowPrivate: true}, overFront)
	for range 5 {
		s.dial()
	}
	a := addresses{quota: Quota{AddressConns: 1}, m: make(map[netip.Addr]*address)}
	ip := netip.MustParseAddr
	one, ok := a.open(ip("2001:db8::1"))
	if !ok {
		t.Fatal("the first is refused")
	}
	for addr, want := range map[string]bool{"2001:db8::2": false, "2001:db8::ffff:1:2:3": false, "2001:db8:0:1::1": true, "192.0.2.1": true, "::ffff:192.0.2.2": true} {
		if _, ok := a.open(ip(addr)); ok != want {
			t.Errorf("%s: %v, want %v", addr, ok, want)
		}
	}
	if _, ok := a.open(ip("192.0.2.2")); ok {
		t.Error("an IPv4 address counts apart from its mapped form")
	}
	a.close(one)
	if _, ok := a.open(ip("2001:db8::3")); !ok {
		t.Error("a closed connection still counts")
	}
}

func TestTrustedProxy(t *testing.T) {
	s := serve(t, Config{
		Quota:          Quota{AddressConns: 1},
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")},
	}, overFront)
	from := func(list string) http.Header { return http.Header{"X-Forwarded-For": {list}} }
	// What is left of the last address that no proxy of ours has is hearsay.
	for i, step := range []struct {
		list string
		ok   bool
	}{
		{"192.0.2.1", true},
		{"192.0.2.1", false},
		{"198.51.100.7, 192.0.2.1", false},
		{"192.0.2.1, 192.0.2.2, 10.1.2.3", true},
		{"192.0.2.2", false},
		{"nonsense", true},
		{"", true},
	} {
		ws, answer, err := s.tryDial(from(step.list))
		if (err == nil) != step.ok {
			t.Fatalf("step %d, %s: %v", i, step.list, err)
		}
		if err != nil {
			if answer.StatusCode != http.StatusTooManyRequests {
				t.Errorf("status %d", answer.StatusCode)
			}
			continue
		}
		defer ws.Close()
	}
}

func TestMessageRate(t *testing.T) {
	overAll(t, Config{Quota: Quota{Messages: 1, MessageBurst: 10}}, func(t *testing.T, s *scene) {
		ws, other := s.dial(), s.dial()
		for range 11 {
			say(t, ws, "x")
		}
		for range 10 {
			if got := hear(t, ws); got != "x" {
				t.Fatal(got)
			}
		}
		if got := hear(t, ws); got != "refused rate" {
			t.Fatal(got)
		}
		closedWith(t, ws, protocol.CloseTryAgainLater)
		say(t, other, "x")
		hear(t, other)
	})
}

// Who sends on after too many messages reads why it is closed; what it sent has no
// effect, and there is an end of it.
func TestMoreThanTooMany(t *testing.T) {
	overAll(t, Config{Quota: Quota{Messages: 1, MessageBurst: 400, Bytes: 1 << 30, ByteBurst: 1 << 30}}, func(t *testing.T, s *scene) {
		for range 20 {
			ws := s.dial()
			written := make(chan struct{})
			go func() {
				defer close(written)
				for range 5000 {
					if ws.WriteMessage(websocket.TextMessage, []byte("x")) != nil {
						return
					}
				}
			}()
			closedWith(t, ws, protocol.CloseTryAgainLater)
			<-written
		}
		ws, long, n := s.dial(), []byte(strings.Repeat("x", 1000)), 0
		for ws.WriteMessage(websocket.TextMessage, long) == nil {
			if n++; n > 10*maxForgotten { // and what the sockets hold, which is less
				t.Fatalf("%d messages were read", n)
			}
		}
	})
}

func TestByteRate(t *testing.T) {
	overAll(t, Config{Quota: Quota{Bytes: 1, ByteBurst: 50_000}}, func(t *testing.T, s *scene) {
		ws := s.dial()
		big := strings.Repeat("x", 10_000)
		go func() {
			for range 6 {
				if ws.WriteMessage(websocket.TextMessage, []byte(big)) != nil {
					return
				}
			}
		}()
		n := 0
		for ; hear1(ws) == big; n++ {
		}
		if n < 1 || n > 5 {
			t.Errorf("%d messages of 10,000 bytes passed a quota of 50,000", n)
		}
		eventually(t, func() bool { return s.host.Stats().Clients == 0 }, "the client is still there")
		if refused := s.session().refused; len(refused) != 1 || refused[0] != protocol.CodeRate {
			t.Errorf("the session was told %v", refused)
		}
	})
}

func hear1(ws *websocket.Conn) string {
	_, b, err := ws.ReadMessage()
	if err != nil && !errors.Is(err, io.EOF) {
		return err.Error()
	}
	return string(b)
}

func TestAddressRates(t *testing.T) {
	s := serve(t, Config{Quota: Quota{AddressMessages: 1, AddressMessageBurst: 10}}, overFront)
	one, two := s.dial(), s.dial()
	for range 5 {
		say(t, one, "x")
		hear(t, one)
		say(t, two, "x")
		hear(t, two)
	}
	say(t, two, "x")
	if got := hear(t, two); got != "refused rate" {
		t.Fatal(got)
	}
}

func TestMemberQuota(t *testing.T) {
	s := serve(t, Config{Quota: Quota{Members: 2, AddressMembers: 3}}, overFront)
	s.dial()
	one := s.session().c
	s.dial()
	two := s.session().c
	for i, step := range []struct {
		c    *Conn
		want bool
	}{{one, true}, {one, true}, {one, false}, {two, true}, {two, false}} {
		if got := step.c.TakeMember(); got != step.want {
			t.Fatalf("step %d: %v", i, got)
		}
	}
	one.DropMember()
	if !two.TakeMember() {
		t.Error("a member that left still counts")
	}
}

func TestBucket(t *testing.T) {
	var b bucket
	now := int64(time.Hour)
	for i := range 12 {
		if got := b.take(now, 1, 5, 10); got != (i < 10) {
			t.Fatalf("message %d: %v", i, got)
		}
	}
	now += int64(time.Second)
	for i := range 6 {
		if got := b.take(now, 1, 5, 10); got != (i < 5) {
			t.Fatalf("a second later, message %d: %v", i, got)
		}
	}
	now += int64(time.Hour)
	for i := range 12 {
		if got := b.take(now, 1, 5, 10); got != (i < 10) {
			t.Fatalf("an hour later, message %d: %v", i, got)
		}
	}
}

// However a stream is cut, a frame's header is found and its length is right.
func TestFrameHead(t *testing.T) {
	for _, n := range []int{0, 1, 125, 126, 65535, 65536, 100_000} {
		for _, masked := range []byte{0, 0x80} {
			var head []byte
			switch {
			case n < 126:
				head = []byte{0x81, masked | byte(n)}
			case n < 1<<16:
				head = []byte{0x81, masked | 126, byte(n >> 8), byte(n)}
			default:
				head = []byte{0x81, masked | 127, 0, 0, 0, 0, 0, byte(n >> 16), byte(n >> 8), byte(n)}
			}
			if masked != 0 {
				head = append(head, 1, 2, 3, 4)
			}
			total := len(head) + n
			stream := append(head, 0, 0, 0, 0, 0)
			for cut := 1; cut <= len(head); cut++ {
				var h frameHead
				given := 0
				for {
					chunk := stream[given:min(given+cut, len(stream))]
					left := h.add(chunk)
					if left > 0 {
						if given+left != total {
							t.Fatalf("%d bytes in pieces of %d: the frame ends at %d, want %d", n, cut, given+left, total)
						}
						break
					}
					given += len(chunk)
				}
				if h.n != 0 {
					t.Fatalf("%d bytes are left for the next header", h.n)
				}
			}
		}
	}
}
