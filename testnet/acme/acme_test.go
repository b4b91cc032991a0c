package acme

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

const (
	long    = 90 * 24 * 3600 // seconds that a certificate lasts
	nowhere = 1              // a port at which nobody listens
)

// The CA asks on the node's own port, by tls-alpn-01, and then the node is what
// its name says: for clients, for other nodes, and in its own words.
func TestCertificate(t *testing.T) {
	t.Parallel()
	l := listen(t)
	a := startCA(t, port(l), nowhere, long)
	n := startNode(t, a, l, t.TempDir(), "--acme-email", "admin@node.test")
	n.await("there is a certificate", func() bool { return n.serial() != "" })

	url := fmt.Sprintf("wss://node.test:%d", n.port)
	if n.ws != url {
		t.Errorf("its URL is %s, want %s", n.ws, url)
	}
	if record := n.get("/.well-known/peerserver"); !strings.Contains(record, `"urls":["`+url+`"]`) {
		t.Errorf("its record is %s", record)
	}
	c, err := n.dial("node.test", a)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if c, err := n.dial("", a); err != nil {
		t.Errorf("without a host name: %v", err)
	} else {
		c.Close()
	}
	if _, err := n.dial("other.test", a); err == nil || !strings.Contains(err.Error(), "unrecognized name") {
		t.Errorf("for another host: %v", err)
	}
	s := n.stats().TLS
	if left := time.Until(s.NotAfter).Hours() / 24; len(s.Names) != 1 || s.Names[0] != "node.test" || s.Fault != "" || left < 89 || left > 90 {
		t.Errorf("its statistics are %+v", s)
	}
	ws := n.socket(a)
	ws.Close()
	if log := strings.Join(n.log.lines("WARN"), ""); log != "" {
		t.Errorf("it complains: %s", log)
	}
}

// socket is a WebSocket of a client that trusts the CA.
func (n *node) socket(a *authority) *websocket.Conn {
	n.t.Helper()
	d := websocket.Dialer{
		TLSClientConfig: &tls.Config{RootCAs: a.roots()},
		NetDial:         func(string, string) (net.Conn, error) { return net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", n.port)) },
	}
	ws, _, err := d.Dial(fmt.Sprintf("wss://node.test:%d/y-webrtc", n.port), nil)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { ws.Close() })
	return ws
}

// pings says whether a connection lives.
func pings(ws *websocket.Conn) error {
	if err := ws.WriteMessage(websocket.TextMessage, []byte(`{"type":"ping"}`)); err != nil {
		return err
	}
	ws.SetReadDeadline(time.Now().Add(patience))
	_, b, err := ws.ReadMessage()
	if err == nil && string(b) != `{"type":"pong"}` {
		err = fmt.Errorf("it says %s", b)
	}
	return err
}

// Where the node's port is not 443 from outside, the CA asks by http-01; others
// who come that way are sent to the node's port.
func TestOverHTTP(t *testing.T) {
	t.Parallel()
	l, other := listen(t), listen(t)
	at := other.Addr().String()
	httpPort := port(other)
	other.Close()
	a := startCA(t, nowhere, httpPort, long)
	n := startNode(t, a, l, t.TempDir(), "--acme-http", at)
	n.await("there is a certificate", func() bool { return n.serial() != "" })

	client := http.Client{Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for _, c := range []struct {
		method, host, path string
		code               int
		to                 string
	}{
		{"GET", "node.test", "/stats.json?a=b", http.StatusFound, fmt.Sprintf("https://node.test:%d/stats.json?a=b", n.port)},
		{"GET", fmt.Sprintf("NODE.test:%d", httpPort), "//evil.test/", http.StatusFound, fmt.Sprintf("https://node.test:%d//evil.test/", n.port)},
		{"POST", "node.test", "/", http.StatusBadRequest, ""},
		{"GET", "evil.test", "/", http.StatusNotFound, ""},
		{"GET", at, "/", http.StatusNotFound, ""},
		{"GET", "evil.test", "/.well-known/acme-challenge/x", http.StatusForbidden, ""},
		{"GET", "node.test", "/.well-known/acme-challenge/x", http.StatusNotFound, ""},
		{"GET", "node.test", "/.well-known/acme-challenge/../../node.key", http.StatusNotFound, ""},
	} {
		q, err := http.NewRequest(c.method, "http://"+at+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		q.Host = c.host
		r, err := client.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, r.Body)
		r.Body.Close()
		if to := r.Header.Get("Location"); r.StatusCode != c.code || to != c.to {
			t.Errorf("%s %s for %s: %d to %q, want %d to %q", c.method, c.path, c.host, r.StatusCode, to, c.code, c.to)
		}
	}
}

// A certificate is renewed when a third of its life is left, and who is connected
// notices nothing.
func TestRenewal(t *testing.T) {
	t.Parallel()
	l := listen(t)
	a := startCA(t, port(l), nowhere, 45)
	n := startNode(t, a, l, t.TempDir())
	n.await("there is a certificate", func() bool { return n.serial() != "" })
	first, end := n.serial(), n.stats().TLS.NotAfter
	ws := n.socket(a)
	n.await("there is a second one", func() bool { return n.serial() != first })
	if now := time.Now(); now.After(end) {
		t.Errorf("it came %v after the end of the first", now.Sub(end))
	}
	if s := n.stats().TLS; s.Fault != "" || !s.NotAfter.After(end) {
		t.Errorf("its statistics are %+v", s)
	}
	c, err := n.dial("node.test", a)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if err := pings(ws); err != nil {
		t.Errorf("who was connected: %v", err)
	}
}

// When the CA is down, the node goes on with the certificate that it has, also
// after a start, and says so once; with one that has ended, too.
func TestAuthorityDown(t *testing.T) {
	t.Parallel()
	l, data := listen(t), t.TempDir()
	a := startCA(t, port(l), nowhere, 40)
	n := startNode(t, a, l, data)
	n.await("there is a certificate", func() bool { return n.serial() != "" })
	first := n.serial()
	a.down()
	n.end()

	n = startNode(t, a, l, data)
	n.await("the one that was kept is shown", func() bool { return n.serial() == first })
	c, err := n.dial("node.test", a)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	ws := n.socket(a)
	n.await("it says that it has ended", func() bool { return n.stats().TLS.Fault == "the certificate has expired" })
	if n.serial() != first {
		t.Error("the certificate that has ended is not shown")
	}
	if err := pings(ws); err != nil {
		t.Errorf("who was connected: %v", err)
	}
	ended := func() []string { return n.log.lines("the certificate has expired") }
	n.await("it is logged", func() bool { return len(ended()) > 0 })
	time.Sleep(6 * time.Second) // in which it looks again
	if lines := ended(); len(lines) != 1 || !strings.Contains(lines[0], "connection refused") {
		t.Errorf("it says %q, want it once, with the reason", lines)
	}
	n.end()

	// One that has ended is shown after a start as well, until there is another.
	n = startNode(t, a, l, data)
	if n.serial() != first || n.stats().TLS.Fault != "the certificate has expired" {
		t.Errorf("after a start: %s, %+v", n.serial(), n.stats().TLS)
	}
	n.end()
	a.up()
	n = startNode(t, a, l, data)
	n.await("there is a new one", func() bool { return n.serial() != first })
}

// A node whose CA cannot be reached, or does not find it, starts all the same,
// says why it has no certificate, and gets one later.
func TestAuthorityLate(t *testing.T) {
	t.Parallel()
	l := listen(t)
	a := startCA(t, port(l), nowhere, long)
	a.down()
	n := startNode(t, a, l, t.TempDir())
	n.await("it says why there is none", func() bool { return len(n.log.lines("there is no certificate yet")) > 0 })
	if n.serial() != "" {
		t.Error("it shows a certificate")
	}
	a.up()
	n.await("there is one", func() bool { return n.serial() != "" })
	n.await("it says so", func() bool { return len(n.log.lines("good again")) == 1 })
}

// What the CA says of a name that does not lead to the node is told.
func TestElsewhere(t *testing.T) {
	t.Parallel()
	l := listen(t)
	a := startCA(t, nowhere, nowhere, long)
	n := startNode(t, a, l, t.TempDir())
	n.await("it says why there is none", func() bool { return len(n.log.lines("there is no certificate yet")) > 0 })
	if line := n.log.lines("there is no certificate yet")[0]; !strings.Contains(line, "Failed to connect") || !strings.Contains(line, "--acme-http") {
		t.Errorf("it says %s", line)
	}
}
