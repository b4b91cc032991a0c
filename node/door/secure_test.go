package door

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerservers/peerserver/testnet/certs"
)

// testTLS is for a server of "node.test", and for clients that trust it, in
// synctest too, where it is the year 2000.
func testTLS(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	ca := certs.New(t)
	made := ca.Certificate(t, certs.Leaf{Names: []string{"node.test"}, From: time.Unix(0, 0)})
	return &tls.Config{Certificates: []tls.Certificate{made}, NextProtos: []string{"http/1.1", acmeTLS}}, ca.Client("node.test")
}

// startPort serves a node's port: WebSockets echo, pages say what was asked
// for, and what is for STUN is answered with what came.
func startPort(t *testing.T, p Port) (h *Host, addr string) {
	t.Helper()
	h = NewHost(Config{AllowPrivate: true})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.Header.Get("Upgrade") != "" {
			h.Upgrade(w, q, Socket{}, func(c *Conn) Session { return &echo{c: c} })
			return
		}
		fmt.Fprintf(w, "page %s, TLS %v", q.URL, q.TLS != nil)
	})
	server := &http.Server{Handler: handler}
	front := h.FrontWith(l, handler, p)
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

// The first byte says whom a connection is for, whether it is under TLS or not.
func TestFirstByte(t *testing.T) {
	server, client := testTLS(t)
	echoSTUN := func(c net.Conn) {
		defer c.Close()
		b := make([]byte, 8)
		if _, err := io.ReadFull(c, b); err == nil {
			fmt.Fprintf(c, "STUN %x", b)
		}
	}
	page, socket := "GET /page HTTP/1.1\r\nHost: node\r\n\r\n", fmt.Sprintf(upgrade, "", "")
	stun := "\x00\x01\x00\x00\x21\x12\xa4\x42"
	for _, c := range []struct {
		name        string
		port        Port
		over        *tls.Config // nil: as it is
		says, hears string
	}{
		{"STUN", Port{STUN: echoSTUN}, nil, stun, "STUN 000100002112a442"},
		{"the last of STUN", Port{STUN: echoSTUN}, nil, "\x03" + stun[1:], "STUN 030100002112a442"},
		{"no longer STUN", Port{STUN: echoSTUN}, nil, "\x04" + stun[1:] + "\r\n\r\n", "400 Bad Request"},
		{"STUN for nobody", Port{}, nil, stun, ""},
		{"a page", Port{STUN: echoSTUN}, nil, page, "page /page, TLS false"},
		{"a WebSocket", Port{STUN: echoSTUN}, nil, socket, "101 Switching Protocols"},
		{"STUN under TLS", Port{TLS: server, STUN: echoSTUN}, client, stun, "STUN 000100002112a442"},
		{"STUN beside TLS", Port{TLS: server, STUN: echoSTUN}, nil, stun, "STUN 000100002112a442"},
		{"STUN under TLS for nobody", Port{TLS: server}, client, stun, ""},
		{"a page under TLS", Port{TLS: server}, client, page, "page /page, TLS true"},
		{"a WebSocket under TLS", Port{TLS: server}, client, socket, "101 Switching Protocols"},
		{"a page beside TLS", Port{TLS: server}, nil, page, "This port speaks TLS"},
		{"garbage beside TLS", Port{TLS: server}, nil, "\x80\xff\x01", ""},
		{"garbage like TLS", Port{TLS: server}, nil, "\x16\x03\x01\x00\x05hello", "\x15\x03\x01\x00\x02\x02"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, addr := startPort(t, c.port)
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			if c.over != nil {
				conn = tls.Client(conn, c.over)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(patience))
			if _, err := io.WriteString(conn, c.says); err != nil {
				t.Fatal(err)
			}
			var heard strings.Builder
			for r := bufio.NewReader(conn); c.hears == "" || !strings.Contains(heard.String(), c.hears); {
				b, err := r.ReadByte()
				if err != nil {
					break
				}
				heard.WriteByte(b)
			}
			if got := heard.String(); !strings.Contains(got, c.hears) || (c.hears == "" && got != "") {
				t.Errorf("hears %q, want %q", got, c.hears)
			}
		})
	}
}

// A CA's look at a host name ends with the handshake.
func TestChallengeEnds(t *testing.T) {
	server, client := testTLS(t)
	_, addr := startPort(t, Port{TLS: server})
	client.NextProtos = []string{acmeTLS}
	c, err := tls.Dial("tcp", addr, client)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if n, err := c.Read(make([]byte, 1)); err == nil {
		t.Errorf("%d bytes came", n)
	}
}

// Handshakes that stall make way: who comes when there are too many waits for as
// long as they may take, and not for their deadline.
func TestStalledHandshakes(t *testing.T) {
	server, client := testTLS(t)
	synctest.Test(t, func(t *testing.T) {
		s := newHandshakes()
		var ends []net.Conn
		for range 2 * maxHandshakes {
			near, far := net.Pipe()
			ends = append(ends, near, far)
			go s.do(far, server)
		}
		synctest.Wait()
		if n := len(s.slots); n != maxHandshakes {
			t.Fatalf("%d are under way, want %d", n, maxHandshakes)
		}
		near, far := net.Pipe()
		ends = append(ends, near, far)
		go tls.Client(near, client).Handshake()
		start := time.Now()
		if _, err := s.do(far, server); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took > 2*handshakePatience {
			t.Errorf("it waited %v, want at most %v", took, 2*handshakePatience)
		}
		for _, c := range ends {
			c.Close()
		}
		synctest.Wait()
		if len(s.slots) != 0 || len(s.began) != 0 {
			t.Errorf("%d slots, %d handshakes are left", len(s.slots), len(s.began))
		}
	})
}

// A secured listener gives connections that have their handshake behind them,
// and one that is closed has none left.
func TestSecure(t *testing.T) {
	server, client := testTLS(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := Secure(l, server)
	var stalled []net.Conn
	for _, says := range []string{"", "\x16\x03", "GET / HTTP/1.1\r\n\r\n"} {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = io.WriteString(c, says)
		stalled = append(stalled, c)
	}
	said := make(chan error, 1)
	go func() {
		c, err := tls.Dial("tcp", l.Addr().String(), client)
		if err == nil {
			defer c.Close()
			_, err = io.WriteString(c, "hello")
		}
		said <- err
	}()
	c, err := s.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b := make([]byte, 5)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "hello" {
		t.Errorf("%q, %v", b, err)
	}
	if err := <-said; err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	for i, c := range stalled {
		c.SetDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, c); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Errorf("connection %d is open", i)
		}
	}
	if _, err := s.Accept(); err == nil {
		t.Error("it goes on")
	}
}

// One address cannot have all the handshakes of a secured listener.
func TestSecureAddress(t *testing.T) {
	server, client := testTLS(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := Secure(l, server)
	defer s.Close()
	var first net.Conn
	for i := range maxSecuringAddress + 1 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if i == 0 {
			first = c
		}
		if i < maxSecuringAddress {
			continue
		}
		c.SetDeadline(time.Now().Add(patience))
		if _, err := c.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
			t.Errorf("one more than %d is not closed: %v", maxSecuringAddress, err)
		}
		first.SetDeadline(time.Now().Add(time.Millisecond))
		if _, err := first.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "timeout") {
			t.Errorf("it is not the last that is closed: %v", err)
		}
	}
	go func() {
		if c, err := s.Accept(); err == nil {
			fmt.Fprint(c, "hello")
			c.Close()
		}
	}()
	d := tls.Dialer{NetDialer: &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}, Timeout: patience}, Config: client}
	c, err := d.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if b, err := io.ReadAll(c); string(b) != "hello" {
		t.Errorf("%q, %v", b, err)
	}
}
