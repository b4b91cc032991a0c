package relay

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/peerservers/peerserver/protocol"
)

func TestAcceptRefuses(t *testing.T) {
	errs := make(chan error, 1)
	node := listenWS(t, false, func(_ Conn, err error) { errs <- err })
	good := map[string]string{
		"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
		"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Protocol": linkProtocol,
	}
	for _, tt := range []struct {
		name, method, header, value string
		status                      int
	}{
		{"a web page", "GET", "Origin", "http://evil.example", 403},
		{"a web page of our own", "GET", "Origin", "http://" + strings.TrimPrefix(node.url.String(), "ws://"), 403},
		{"an opaque origin", "GET", "Origin", "null", 403},
		{"an empty origin", "GET", "Origin", "", 403},
		{"no subprotocol", "GET", "Sec-WebSocket-Protocol", "", 400},
		{"another subprotocol", "GET", "Sec-WebSocket-Protocol", "peerserver.link.2", 400},
		{"no upgrade", "GET", "Upgrade", "", 400},
		{"no key", "GET", "Sec-WebSocket-Key", "", 400},
		{"an old version", "GET", "Sec-WebSocket-Version", "8", 400},
		{"a POST", "POST", "", "", 405},
	} {
		req, _ := http.NewRequest(tt.method, strings.Replace(node.url.String(), "ws", "http", 1)+linkPath, nil)
		for k, v := range good {
			req.Header.Set(k, v)
		}
		if tt.header != "" {
			req.Header.Set(tt.header, tt.value)
		}
		transport := &http.Transport{DisableKeepAlives: true}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if err := <-errs; err == nil || resp.StatusCode != tt.status {
			t.Errorf("%s: %v, status %d, want %d", tt.name, err, resp.StatusCode, tt.status)
		}
	}
}

// What answers a dial and is no link is an error, is not followed anywhere and
// is not read for ever.
func TestDialAnswers(t *testing.T) {
	upgrade := func(header http.Header, protocols ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			u := websocket.Upgrader{Subprotocols: protocols, EnableCompression: true}
			r.Header.Set("Sec-Websocket-Extensions", header.Get("Take"))
			c, err := u.Upgrade(w, r, nil)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			_, _, _ = c.ReadMessage()
		}
	}
	followed := make(chan struct{}, 10)
	for _, tt := range []struct {
		name   string
		handle http.HandlerFunc
		want   protocol.Code
	}{
		{"404", http.NotFound, protocol.CodeMalformed},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) {
			followed <- struct{}{}
			http.Redirect(w, r, linkPath, http.StatusTemporaryRedirect)
		}, protocol.CodeMalformed},
		{"a page", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }, protocol.CodeMalformed},
		{"another WebSocket", upgrade(nil), protocol.CodeMalformed},
		{"compression", upgrade(http.Header{"Take": {"permessage-deflate"}}, linkProtocol), protocol.CodeMalformed},
		{"no HTTP", func(w http.ResponseWriter, _ *http.Request) {
			c, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			fmt.Fprint(c, "a secret\r\n\r\n")
		}, protocol.CodeMalformed},
		{"headers without end", func(w http.ResponseWriter, _ *http.Request) {
			c, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			_, err = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\n")
			for err == nil {
				_, err = io.WriteString(c, "X: "+strings.Repeat("x", 1000)+"\r\n")
			}
		}, protocol.CodeTooLarge},
		{"a link", upgrade(nil, linkProtocol), protocol.CodeOK},
	} {
		t.Run(tt.name, func(t *testing.T) {
			noLeaks(t)
			node := serve(t, false, tt.handle)
			c, err := NewDialer(node.policy).Dial(context.Background(), node.url)
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the error repeats the answer: %v", err)
			}
			if code(err) != tt.want || (err == nil) != (tt.want == protocol.CodeOK) {
				t.Errorf("dial: %v", err)
			}
			if err == nil {
				c.Close(1000)
			}
		})
	}
	if len(followed) != 1 {
		t.Errorf("the redirect was asked for %d times", len(followed))
	}
}

func TestDialUntrusted(t *testing.T) {
	noLeaks(t)
	node := serve(t, true, http.NotFoundHandler())
	_, err := NewDialer(DialPolicy{AllowPrivate: true}).Dial(context.Background(), node.url)
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); !ok {
		t.Errorf("a certificate of nobody: %v", err)
	}
	node.policy.TLS.ServerName = "else.example"
	_, err = NewDialer(node.policy).Dial(context.Background(), node.url)
	if err == nil || strings.Contains(err.Error(), "else.example") || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate of another host: %v", err)
	}
	node.url.Secure = false
	if _, err = NewDialer(node.policy).Dial(context.Background(), node.url); err == nil {
		t.Error("a TLS server is linked to in the clear")
	}
}

// A dial ends with its context, however far it has come.
func TestDialContext(t *testing.T) {
	for _, secure := range []bool{false, true} { // the TLS handshake hangs, or the answer
		noLeaks(t)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() {
			_, err := NewDialer(DialPolicy{AllowPrivate: true}).Dial(ctx, protocol.LinkURL{
				Secure: secure, Host: "127.0.0.1", Port: uint16(l.Addr().(*net.TCPAddr).Port),
			})
			ended <- err
		}()
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		cancel()
		if err := ending(t, "the dial", ended); !errors.Is(err, context.Canceled) {
			t.Errorf("secure %v: %v", secure, err)
		}
	}
}

// A handshake tells the dialer that a node is there.
func TestDialProves(t *testing.T) {
	other := newTestIdentity(t, "other")
	accepted := make(chan shaken, 1)
	node := listenWS(t, false, func(c Conn, _ error) { accepted <- honest(protocol.Responder, other, nil, "")(c) })
	d := NewDialer(node.policy).(*wsDialer)
	d.policy = DialPolicy{Allow: func(netip.AddrPort) bool { return true }} // where places counts
	for i := range placeURLs + 2 {
		node.url.Host = []string{"127.0.0.1", "::ffff:127.0.0.1"}[i%2]
		c, err := d.Dial(context.Background(), node.url)
		if err != nil {
			t.Fatalf("dial %d: %v", i, err)
		}
		s := honest(protocol.Dialler, newTestIdentity(t, "me"), nil, "")(c)
		r := <-accepted
		if s.err != nil || r.err != nil {
			t.Fatal(s.err, r.err)
		}
		s.conn.close(1000)
		r.conn.close(1000)
	}
	for to, p := range d.seen.all {
		if !p.proven || len(d.seen.all) != 1 || to.Addr().String() != "127.0.0.1" {
			t.Errorf("of %d places, %v is proven: %v", len(d.seen.all), to, p.proven)
		}
	}
}
