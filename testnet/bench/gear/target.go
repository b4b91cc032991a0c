package gear

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // RFC 6455 asks for it
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"
)

// dialWithin is how long a server has to take a connection and to upgrade it.
const dialWithin = 20 * time.Second

// Target is a server's URL.
type Target struct {
	host string // with its port
	tls  bool
	path string
	name string // Host header and certificate
}

// ParseTarget reads a URL of the form ws://host:port/path or wss://host/path.
func ParseTarget(s string) (t Target, err error) {
	u, err := url.Parse(s)
	if err != nil {
		return t, err
	}
	t = Target{host: u.Host, path: u.RequestURI(), name: u.Host, tls: u.Scheme == "wss"}
	if (u.Scheme != "ws" && u.Scheme != "wss") || u.Host == "" {
		return t, fmt.Errorf("%q is not of the form ws://host:port or wss://host", s)
	}
	if u.Port() == "" {
		port := "80"
		if t.tls {
			port = "443"
		}
		t.host = net.JoinHostPort(u.Hostname(), port)
	}
	return t, nil
}

// source says from where a server on loopback is dialled: 500 connections
// from each address, so that neither ports nor a server's bound on connections
// of one address end. It is nil for other servers.
func (t *Target) source(n int) *net.TCPAddr {
	host, _, err := net.SplitHostPort(t.host)
	ip := net.ParseIP(host).To4()
	if err != nil || ip == nil || !ip.IsLoopback() {
		return nil
	}
	n = n/500 + 1
	return &net.TCPAddr{IP: net.IPv4(127, 0, byte(n>>8), byte(n))}
}

// Dial opens the WebSocket of client n, and returns what has already come
// through it. Not with gorilla's dialer: what it allocates for each would be half
// of what is measured when thousands are opened.
func (t *Target) Dial(ctx context.Context, n int) (c net.Conn, early []byte, err error) {
	d := net.Dialer{Timeout: dialWithin}
	if from := t.source(n); from != nil {
		d.LocalAddr = from
	}
	if c, err = d.DialContext(ctx, "tcp", t.host); err != nil {
		return nil, nil, err
	}
	if t.tls {
		host, _, _ := net.SplitHostPort(t.host)
		c = tls.Client(c, &tls.Config{ServerName: host})
	}
	_ = c.SetDeadline(time.Now().Add(dialWithin))
	if early, err = t.upgrade(c); err != nil {
		c.Close()
		return nil, nil, err
	}
	_ = c.SetDeadline(time.Time{})
	return c, early, nil
}

func (t *Target) upgrade(c net.Conn) (early []byte, err error) {
	var nonce [16]byte
	rand.Read(nonce[:]) // never fails
	key := base64.StdEncoding.EncodeToString(nonce[:])
	_, err = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n\r\n", t.path, t.name, key)
	if err != nil {
		return nil, err
	}
	r := bufio.NewReaderSize(c, 1<<10)
	answer, err := http.ReadResponse(r, nil)
	if err != nil {
		return nil, fmt.Errorf("upgrade: %w", err)
	}
	answer.Body.Close()
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // RFC 6455 asks for it
	switch {
	case answer.StatusCode != http.StatusSwitchingProtocols:
		return nil, fmt.Errorf("upgrade: the server answers %s", answer.Status)
	case answer.Header.Get("Sec-WebSocket-Accept") != base64.StdEncoding.EncodeToString(sum[:]):
		return nil, errors.New("upgrade: the server's answer has the wrong Sec-WebSocket-Accept")
	}
	return r.Peek(r.Buffered())
}
