package door

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

const upgrade = "GET /%s HTTP/1.1\r\nHost: node\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n"

// startFront serves sockets with a session that echoes, at /reject with 403,
// at /steal by taking the connection; and others by net/http.
func startFront(t *testing.T) (*Host, string) {
	t.Helper()
	h := NewHost(Config{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	front := h.Front(l, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		switch q.URL.Path {
		case "/reject":
			w.Header().Set("X-From", q.RemoteAddr)
			http.Error(w, "no", http.StatusForbidden)
		case "/steal":
			c, rw, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			fmt.Fprint(rw, "stolen")
			rw.Flush()
			c.Close()
		default:
			h.Upgrade(w, q, Socket{}, func(c *Conn) Session { return &echo{c: c} })
		}
	}))
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		b, _ := io.ReadAll(q.Body)
		fmt.Fprintf(w, "others got %s %s %s", q.Method, q.URL, b)
	})}
	ctx, stop := context.WithCancel(context.Background())
	served, hosted := make(chan error), make(chan error)
	go func() { served <- server.Serve(front) }()
	go func() { hosted <- h.Serve(ctx) }()
	t.Cleanup(func() {
		server.Close()
		<-served
		stop()
		if err := <-hosted; err != nil {
			t.Error(err)
		}
	})
	return h, l.Addr().String()
}

func TestFrontAnswersOrHandsOn(t *testing.T) {
	_, addr := startFront(t)
	get := "GET /page HTTP/1.1\r\nHost: node\r\n\r\n"
	for name, c := range map[string]struct {
		send []string // one write each, with a pause between
		want string
	}{
		"upgrade":                {[]string{fmt.Sprintf(upgrade, "", "")}, "HTTP/1.1 101 Switching Protocols"},
		"upgrade in two pieces":  {[]string{fmt.Sprintf(upgrade, "", "")[:70], fmt.Sprintf(upgrade, "", "")[70:]}, "others got GET /"},
		"upgrade byte by byte":   {strings.Split(fmt.Sprintf(upgrade, "", ""), ""), "others got GET /"},
		"large upgrade":          {[]string{fmt.Sprintf(upgrade, "", "Cookie: "+strings.Repeat("x", 8000)+"\r\n")}, "HTTP/1.1 101 Switching Protocols"},
		"rejected":               {[]string{fmt.Sprintf(upgrade, "reject", "")}, "HTTP/1.1 403 Forbidden"},
		"without key":            {[]string{strings.Replace(fmt.Sprintf(upgrade, "", ""), "-Key", "-Kex", 1)}, "HTTP/1.1 400 Bad Request"},
		"of another version":     {[]string{strings.Replace(fmt.Sprintf(upgrade, "", ""), ": 13", ": 8", 1)}, "HTTP/1.1 400 Bad Request"},
		"taken by somebody else": {[]string{fmt.Sprintf(upgrade, "steal", "")}, "stolen"},
		"with a frame behind it": {[]string{fmt.Sprintf(upgrade, "", "") + "\x81\x80\x00\x00\x00\x00"}, "others got GET /"},
		"with a body":            {[]string{fmt.Sprintf(upgrade, "", "Content-Length: 2\r\n") + "ab"}, "others got GET / ab"},
		"with a body to come":    {[]string{fmt.Sprintf(upgrade, "", "Content-Length: 2\r\n"), "ab"}, "others got GET / ab"},
		"HTTP/1.0":               {[]string{strings.Replace(fmt.Sprintf(upgrade, "", ""), "HTTP/1.1", "HTTP/1.0", 1)}, "others got GET /"},
		"of another protocol":    {[]string{strings.Replace(fmt.Sprintf(upgrade, "", ""), "Upgrade: websocket", "Upgrade: h2c", 1)}, "others got GET /"},
		"page":                   {[]string{get}, "others got GET /page"},
		"post":                   {[]string{"POST /x HTTP/1.1\r\nHost: node\r\nContent-Length: 3\r\n\r\nabc"}, "others got POST /x abc"},
		"two pages at once":      {[]string{get + strings.Replace(get, "page", "second", 1)}, "others got GET /second"},
		"page, then upgrade":     {[]string{get, fmt.Sprintf(upgrade, "", "")}, "others got GET / "},
		"no HTTP":                {[]string{"\x16\x03\x01\x00\x05hello\r\n\r\n"}, "HTTP/1.1 400 Bad Request"},
		"a bad header":           {[]string{"GET / HTTP/1.1\r\nHost node\r\n\r\n"}, "HTTP/1.1 400 Bad Request"},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(patience))
			got := make(chan string, 1)
			go func() {
				var all strings.Builder
				r := bufio.NewReader(conn)
				for !strings.Contains(all.String(), c.want) {
					b, err := r.ReadByte()
					if err != nil {
						break
					}
					all.WriteByte(b)
				}
				got <- all.String()
			}()
			for i, piece := range c.send {
				if i > 0 {
					time.Sleep(time.Millisecond)
				}
				if _, err := io.WriteString(conn, piece); err != nil {
					t.Fatal(err)
				}
			}
			if got := <-got; !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// Many clients that come and go at once each have a session of their own.
func TestFrontUnderLoad(t *testing.T) {
	s := serve(t, Config{AllowPrivate: true}, overFront)
	done := make(chan error, 20)
	for i := range cap(done) {
		go func() {
			for j := range 20 {
				ws, _, err := s.tryDial(nil)
				if err != nil {
					done <- err
					return
				}
				ws.SetReadDeadline(time.Now().Add(patience))
				want := fmt.Sprint("client ", i, " time ", j)
				err = ws.WriteMessage(1, []byte(want))
				if err == nil {
					var b []byte
					if _, b, err = ws.ReadMessage(); err == nil && string(b) != want {
						err = fmt.Errorf("%q came back as %q", want, b)
					}
				}
				ws.Close()
				if err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	eventually(t, func() bool { return s.host.Stats().Clients == 0 }, "a client that went is still counted")
}

// One who connects and says nothing is closed, by and by or when the node
// stops.
func TestFrontDoesNotWaitForTheSilent(t *testing.T) {
	// Closed when the host has ended, so that it does not end because of that.
	var late net.Conn
	t.Cleanup(func() { late.Close() })
	h, addr := startFront(t)
	early, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer early.Close()
	early.SetReadDeadline(time.Now().Add(patience))
	waiting := func() int {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.silent)
	}
	eventually(t, func() bool { return waiting() == 1 }, "the connection is not known")
	h.hangUp(t.Context(), time.Now().Add(firstWithin-time.Second))
	if waiting() != 1 {
		t.Error("it is closed too early")
	}
	h.hangUp(t.Context(), time.Now().Add(firstWithin+time.Second))
	if _, err := early.Read(make([]byte, 1)); err == nil || waiting() != 0 {
		t.Error("it is not closed")
	}
	// The next one is closed by the end of the test, which would wait for it.
	if late, err = net.Dial("tcp", addr); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return waiting() == 1 }, "the connection is not known")
}
