package node_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/peerservers/peerserver/node"
	"github.com/peerservers/peerserver/relay"
	"github.com/peerservers/peerserver/testnet"
	"github.com/peerservers/peerserver/testnet/certs"
)

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// dialerOf is for WebSockets to a node whatever the host in the URL.
func dialerOf(ca *certs.CA, n *node.Node) websocket.Dialer {
	return websocket.Dialer{TLSClientConfig: ca.Client(""), NetDial: func(string, string) (net.Conn, error) {
		return net.Dial("tcp", n.Addr().String())
	}}
}

// logged is what a node logs.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), text)
}

func (l *logged) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func portOf(n *node.Node) int { return n.Addr().(*net.TCPAddr).Port }

// Every door is there over TLS, at a host of the certificate.
func TestDoorsOverTLS(t *testing.T) {
	ca := certs.New(t)
	cert, key := ca.Files(t, certs.Leaf{Names: []string{"node.test", "*.nodes.test"}})
	n := startPublicNode(t, node.Config{TLSCert: cert, TLSKey: key})
	for _, host := range []string{"node.test", "a.nodes.test"} {
		for _, v := range visits() {
			t.Run(host+"/"+v.door, func(t *testing.T) {
				d := dialerOf(ca, n)
				if v.door == "peer" {
					d.Subprotocols = []string{"peerserver.v1"}
				}
				url := fmt.Sprintf("wss://%s:%d", host, portOf(n))
				ws, _, err := d.Dial(url+v.path("my-app"), nil)
				if err != nil {
					t.Fatal(err)
				}
				defer ws.Close()
				c := &visitor{t, ws, url}
				v.speak(t, c, "my-app")
				if heard, closed := c.hears(v.in); closed != nil {
					t.Errorf("closed with %v after %q", closed, heard)
				}
			})
		}
	}
}

// tlsPage asks a node for a page, and says which certificate it shows.
func tlsPage(t *testing.T, n *node.Node, cfg *tls.Config, path string) (body string, seen tls.ConnectionState, err error) {
	t.Helper()
	c := http.Client{Timeout: patience, Transport: &http.Transport{
		TLSClientConfig: cfg, DisableKeepAlives: true, ForceAttemptHTTP2: true,
	}}
	r, err := c.Get("https://" + n.Addr().String() + path)
	if err != nil {
		return "", seen, err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if r.ProtoMajor != 1 {
		t.Errorf("%s came by %s", path, r.Proto)
	}
	return string(b), *r.TLS, err
}

func tlsStats(t *testing.T, n *node.Node, cfg *tls.Config) node.TLSStats {
	t.Helper()
	body, _, err := tlsPage(t, n, cfg, "/stats.json")
	if err != nil {
		t.Fatal(err)
	}
	var s struct {
		TLS     node.TLSStats `json:"tls"`
		Clients struct {
			Failed int `json:"failed_tls"`
		} `json:"clients"`
	}
	if err := json.Unmarshal([]byte(body), &s); err != nil {
		t.Fatal(err)
	}
	return s.TLS
}

// What a handshake is refused for, and what it is not: TLS before 1.2, protocols
// that are not spoken, and names that the client does not find in the certificate.
func TestHandshakes(t *testing.T) {
	ca := certs.New(t)
	cert, key := ca.Files(t, certs.Leaf{Names: []string{"node.test"}})
	n := startNode(t, node.Config{TLSCert: cert, TLSKey: key})
	for _, c := range []struct {
		name   string
		change func(*tls.Config)
		proto  string
		fails  string
	}{
		{"as usual", func(*tls.Config) {}, "", ""},
		{"TLS 1.2", func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, "", ""},
		{"TLS 1.1", func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, "", "protocol version not supported"},
		{"a browser", func(c *tls.Config) { c.NextProtos = []string{"h2", "http/1.1"} }, "http/1.1", ""},
		{"HTTP/2 alone", func(c *tls.Config) { c.NextProtos = []string{"h2"} }, "", "no application protocol"},
		{"TURN", func(c *tls.Config) { c.NextProtos = []string{"stun.turn"} }, "stun.turn", ""},
		{"a CA, where there is none", func(c *tls.Config) { c.NextProtos = []string{"acme-tls/1"} }, "", "no application protocol"},
		{"no name", func(c *tls.Config) { c.ServerName, c.InsecureSkipVerify = "", true }, "", ""},
		{"another host", func(c *tls.Config) { c.ServerName = "other.test" }, "", "not other.test"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := ca.Client("node.test")
			c.change(cfg)
			conn, err := tls.Dial("tcp", n.Addr().String(), cfg)
			if err != nil {
				if c.fails == "" || !strings.Contains(err.Error(), c.fails) {
					t.Errorf("%v, want %q", err, c.fails)
				}
				return
			}
			defer conn.Close()
			if got := conn.ConnectionState().NegotiatedProtocol; c.fails != "" || got != c.proto {
				t.Errorf("speaks %q, want %q and the error %q", got, c.proto, c.fails)
			}
		})
	}
	body, _, err := tlsPage(t, n, ca.Client("node.test"), "/health")
	if err != nil || !strings.Contains(body, "ok") {
		t.Errorf("%q, %v", body, err)
	}
}

// A thousand clients that stall in their handshakes, and others that say nothing
// or garbage, keep nobody out.
func TestStalledHandshakes(t *testing.T) {
	ca := certs.New(t)
	cert, key := ca.Files(t, certs.Leaf{Names: []string{"node.test"}})
	n := startPublicNode(t, node.Config{TLSCert: cert, TLSKey: key})
	hello := firstFlight(t, ca.Client("node.test"))
	for i := range 1200 {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i%4))}}
		c, err := d.Dial("tcp", n.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		switch {
		case i < 500: // the whole of the client's first words, and nothing after it
			_, _ = c.Write(hello)
		case i < 1000: // half of them
			_, _ = c.Write(hello[:len(hello)/2])
		case i < 1100: // garbage
			_, _ = c.Write([]byte("\x16\x03\x01\xff\xffgarbage"))
		}
	}
	ws := dialerOf(ca, n)
	for range 3 {
		c, _, err := ws.Dial(fmt.Sprintf("wss://node.test:%d/y-webrtc", portOf(n)), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := ping(c); err != nil {
			t.Error(err)
		}
		c.Close()
	}
}

// firstFlight is what a client says first.
func firstFlight(t *testing.T, cfg *tls.Config) []byte {
	t.Helper()
	near, far := net.Pipe()
	ended := make(chan struct{})
	go func() { defer close(ended); _ = tls.Client(near, cfg).Handshake() }()
	b := make([]byte, 16<<10)
	n, err := far.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	far.Close()
	<-ended
	return b[:n]
}

// ping says whether a y-webrtc client is heard.
func ping(ws *websocket.Conn) error {
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

// STUN and TURN are on the node's port too, under TLS and beside it. Who has such
// a connection does not hold up the end of the node.
func TestSTUNOnThePort(t *testing.T) {
	ca := certs.New(t)
	cert, key := ca.Files(t, certs.Leaf{Names: []string{"node.test"}})
	var conns []net.Conn
	t.Cleanup(func() { // after the node's end
		for _, c := range conns {
			c.Close()
		}
	})
	n := startNode(t, node.Config{TLSCert: cert, TLSKey: key, TURN: true, TURNAllowPrivate: true, STUN: "127.0.0.1:0", TURNTLS: "127.0.0.1:0"})
	asks := append([]byte{0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42}, "transaction."...)
	for _, over := range []*tls.Config{nil, ca.Client("node.test")} {
		c, err := net.Dial("tcp", n.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if over != nil {
			c = tls.Client(c, over)
		}
		conns = append(conns, c)
		c.SetDeadline(time.Now().Add(patience))
		answer := make([]byte, len(asks))
		if _, err = c.Write(asks); err == nil {
			_, err = io.ReadFull(c, answer)
		}
		if err != nil || answer[0] != 1 || answer[1] != 1 || !bytes.Equal(answer[4:], asks[4:]) {
			t.Errorf("TLS %v: %x, %v", over != nil, answer, err)
		}
	}
}

// Another node links over TLS: it has found the URL in the DHT, and the host in the
// certificate.
func TestLinkOverTLS(t *testing.T) {
	ca := certs.New(t)
	cert, key := ca.Files(t, certs.Leaf{Names: []string{"localhost"}})
	l, packets, err := testnet.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().(*net.TCPAddr)
	shown := startNode(t, node.Config{
		Listener: l, Packets: packets, Bootstrap: []string{}, TLSCert: cert, TLSKey: key, URLs: []string{fmt.Sprintf("wss://localhost:%d", addr.Port)},
	})
	dials := startNode(t, node.Config{
		Bootstrap: []string{addr.String()}, NoAnnounce: true, STUN: "none",
		Dialer: relay.NewDialer(relay.DialPolicy{AllowPrivate: true, TLS: ca.Client("")}),
	})
	eventually(t, func() bool { return shown.Stats().Relay.Links == 1 && dials.Stats().Relay.Links == 1 }, "they do not link")
}
