package doctor_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"flag"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/peerservers/peerserver/cmd/peerserver/doctor"
	"github.com/peerservers/peerserver/node"
	nets "github.com/peerservers/peerserver/testnet"
)

// patience is how long a test waits for what must come.
const patience = time.Minute

func TestMain(m *testing.M) {
	// What runs here waits far more than it works. A -parallel of the command line counts.
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// run looks at a node, and gives up on what takes too long.
func run(t *testing.T, o doctor.Options) doctor.Report {
	t.Helper()
	if o.Idle == 0 {
		o.Idle = 100 * time.Millisecond
	}
	if o.Bootstrap == nil {
		o.Bootstrap = []string{"127.0.0.1:1"} // nothing of a test is to leave the machine
	}
	r := doctor.Run(t.Context(), o)
	t.Cleanup(func() {
		if t.Failed() {
			for _, f := range r.Findings {
				t.Logf("%s %s %s: %s", f.Check, f.State, f.Code, f.Found)
			}
		}
	})
	return r
}

// codes are those of what is not right.
func codes(r doctor.Report) (list []doctor.Code) {
	for _, f := range r.Findings {
		if f.State == doctor.Failed || f.State == doctor.Warning {
			list = append(list, f.Code)
		}
	}
	return list
}

func has(r doctor.Report, code doctor.Code) bool { return slices.Contains(codes(r), code) }

// names is has of what was skipped, too.
func names(r doctor.Report, code doctor.Code) bool {
	return slices.ContainsFunc(r.Findings, func(f doctor.Finding) bool { return f.Code == code })
}

// startNode serves a node that knows nobody until the test ends.
func startNode(t *testing.T, cfg node.Config) *node.Node {
	t.Helper()
	cfg.AllowPrivate, cfg.NoDHT = true, cfg.Bootstrap == nil
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	n, err := node.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Serve(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return n
}

// TestHealthy: of three nodes that are as they should be nothing is said to be
// wrong, each check has found something, and nothing is left behind at the node.
func TestHealthy(t *testing.T) {
	t.Parallel()
	n := nets.StartWith(t, nets.Options{Nodes: 3, TURN: true})
	published(t, n.HTTP(0))
	var told []doctor.Finding
	r := run(t, doctor.Options{URL: n.URL(0), Bootstrap: []string{strings.TrimPrefix(n.HTTP(1), "http://")}, Found: func(f doctor.Finding) { told = append(told, f) }})
	if !r.OK || len(codes(r)) > 0 || !slices.Equal(told, r.Findings) {
		t.Errorf("%v is wrong, and %d of %d findings were told", codes(r), len(told), len(r.Findings))
	}
	for _, want := range []string{"node", "record", "clock", "dht", "websocket", "proxy", "login", "stun", "turn", "nat"} {
		if !slices.ContainsFunc(r.Findings, func(f doctor.Finding) bool { return f.Check == want && f.State == doctor.OK }) {
			t.Errorf("nothing is ok of %s", want)
		}
	}
	for _, want := range []string{"the same as the node shows", "those of other nodes", "TURN over UDP", "TURN over TCP", "and from here", "no NAT"} {
		if !slices.ContainsFunc(r.Findings, func(f doctor.Finding) bool { return strings.Contains(f.Found, want) }) {
			t.Errorf("nobody says %q", want)
		}
	}
	if apps := statsOf(t, n.HTTP(0)).Relay.Apps; apps != 0 {
		t.Errorf("it has left %d apps", apps)
	}
}

func statsOf(t *testing.T, base string) (s node.Stats) {
	t.Helper()
	answer, err := http.Get(base + "/stats.json")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if err := json.NewDecoder(answer.Body).Decode(&s); err != nil {
		t.Fatal(err)
	}
	return s
}

// published waits until a node has put its record into the DHT.
func published(t *testing.T, base string) {
	t.Helper()
	for end := time.Now().Add(patience); !statsOf(t, base).DHT.Published; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the record is not published")
		}
	}
}

// failing is a proxy that answers some requests by itself.
func failing(status int, some func(*http.Request) bool) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			if some(q) {
				http.Error(w, http.StatusText(status), status)
				return
			}
			next.ServeHTTP(w, q)
		})
	}
}

// TestProxies puts something between doctor and a node, as operators do by
// mistake.
func TestProxies(t *testing.T) {
	t.Parallel()
	trusted := node.Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	always := func(*http.Request) bool { return true }
	path := func(p string) func(*http.Request) bool { return func(q *http.Request) bool { return q.URL.Path == p } }
	for _, c := range []struct {
		name    string
		cfg     node.Config
		between func(next http.Handler) http.Handler
		want    doctor.Code // "": nothing is wrong
	}{
		{"a good one", trusted, func(next http.Handler) http.Handler { return next }, ""},
		{"one that is not trusted", node.Config{}, func(next http.Handler) http.Handler { return next }, doctor.ProxyUntrusted},
		{"one that does not forward Upgrade", trusted, func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				q.Header.Del("Upgrade")
				q.Header.Del("Connection")
				next.ServeHTTP(w, q)
			})
		}, doctor.WSUpgrade},
		{"one that forwards some paths only", trusted, failing(http.StatusNotFound, path("/link")), doctor.WSPath},
		{"one that breaks down", trusted, failing(http.StatusInternalServerError, func(q *http.Request) bool { return q.Header.Get("Upgrade") != "" }), doctor.WSFailed},
		{"one that lets no peer in", trusted, failing(http.StatusNotFound, path("/v1")), doctor.LoginFailed},
		{"one whose node is gone", node.Config{}, failing(http.StatusBadGateway, always), doctor.ProxyNoNode},
		{"something else", node.Config{}, failing(http.StatusNotFound, always), doctor.NodeOther},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := startNode(t, c.cfg)
			to := &url.URL{Scheme: "http", Host: n.Addr().String()}
			proxy := httptest.NewServer(c.between(&httputil.ReverseProxy{
				Rewrite: func(r *httputil.ProxyRequest) {
					r.SetURL(to)
					r.SetXForwarded()
					r.Out.Host = r.In.Host
				},
			}))
			defer proxy.Close()
			r := run(t, doctor.Options{URL: proxy.URL})
			if c.want == "" && !r.OK || c.want != "" && (r.OK || !has(r, c.want)) {
				t.Errorf("%v, want %q", codes(r), c.want)
			}
		})
	}
}

// TestWires: what passes the handshake may still be stopped.
func TestWires(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		wire func(from, to net.Conn) // carries bytes one way, towards the node
		want doctor.Code
	}{
		{"all of it passes", func(from, to net.Conn) { _, _ = io.Copy(to, from) }, ""},
		{"quiet ones are closed", closeQuiet, doctor.WSIdle},
		{"large ones are lost", func(from, to net.Conn) { _, _ = io.CopyN(to, from, 32<<10) }, doctor.WSLarge},
		{"nothing passes after the handshake", stopUpgraded, doctor.WSPong},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := startNode(t, node.Config{})
			r := run(t, doctor.Options{URL: wired(t, n.Addr().String(), c.wire), Idle: time.Second})
			if c.want == "" && !r.OK || c.want != "" && !has(r, c.want) {
				t.Errorf("%v, want %q", codes(r), c.want)
			}
		})
	}
}

// wired is the URL of a TCP forwarder.
func wired(t *testing.T, to string, wire func(from, to net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			there, err := net.Dial("tcp", to)
			if err != nil {
				from.Close()
				return
			}
			go func() {
				wire(from, there)
				if w, _ := from.(*net.TCPConn); w != nil {
					_, _ = io.Copy(io.Discard, from) // what is lost is not missed
				}
			}()
			go func() {
				_, _ = io.Copy(from, there)
				from.Close()
				there.Close()
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

// closeQuiet is a proxy that has little patience.
func closeQuiet(from, to net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		_ = from.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		n, err := from.Read(buf)
		if err != nil {
			from.Close()
			to.Close()
			return
		}
		_, _ = to.Write(buf[:n])
	}
}

// stopUpgraded is a proxy that knows requests and answers alone.
func stopUpgraded(from, to net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		_, _ = to.Write(buf[:n])
		if strings.Contains(string(buf[:n]), "Upgrade: websocket") {
			return
		}
	}
}

// TestTokenStays: a token is given to nobody whose certificate is not good, and
// to nobody's log.
func TestTokenStays(t *testing.T) {
	t.Parallel()
	const token = "secret-token-of-many-letters"
	heard := make(chan string, 100)
	thief := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) { heard <- q.URL.String() }))
	thief.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	thief.Config.ErrorLog = log.New(io.Discard, "", 0)
	thief.StartTLS()
	defer thief.Close()
	r := run(t, doctor.Options{URL: thief.URL + "/?token=" + token})
	if !has(r, doctor.TLSUntrusted) || r.OK {
		t.Errorf("%v", codes(r))
	}
	if len(heard) > 0 {
		t.Errorf("it was asked for %s", <-heard)
	}
	n := startNode(t, node.Config{Tokens: []string{token}})
	if r := run(t, doctor.Options{URL: "http://" + n.Addr().String()}); !r.OK || has(r, doctor.WSUpgrade) || !names(r, doctor.NodeDenied) {
		t.Errorf("a private node without the token: %v", codes(r))
	}
	r = run(t, doctor.Options{URL: "ws://" + n.Addr().String() + "/?token=" + token})
	b, err := json.Marshal(r)
	if err != nil || !r.OK || strings.Contains(string(b), token) {
		t.Errorf("with its token: %v, %v, %s", err, codes(r), b)
	}
}

// TestNobody: what is not there is one finding, and takes no time.
func TestNobody(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"http://127.0.0.1:1", "https://127.0.0.1:1", "127.0.0.1:1", "ftp://example.org", "http://", "::"} {
		if r := run(t, doctor.Options{URL: at}); !has(r, doctor.NodeDown) || r.OK || len(r.Findings) != 1 {
			t.Errorf("%s: %v", at, r.Findings)
		}
	}
	if r := run(t, doctor.Options{Admin: "127.0.0.1:1"}); !has(r, doctor.NodeDown) {
		t.Errorf("%v", codes(r))
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	if r := run(t, doctor.Options{URL: "http://" + silent.Addr().String(), Timeout: time.Second}); !has(r, doctor.NodeDown) {
		t.Errorf("%v", codes(r))
	}
}

// TestFaults: each code is there once, and says what to do.
func TestFaults(t *testing.T) {
	seen := map[doctor.Code]bool{}
	for _, f := range doctor.Faults() {
		if seen[f.Code] || f.Do == "" || f.State == doctor.OK || f.Code == "" {
			t.Errorf("%+v", f)
		}
		seen[f.Code] = true
	}
}

// TestOutOfTime: what was cut short is not said to be wrong.
func TestOutOfTime(t *testing.T) {
	t.Parallel()
	n := startNode(t, node.Config{})
	r := run(t, doctor.Options{URL: "http://" + n.Addr().String(), Idle: time.Minute, Timeout: 8 * time.Second})
	if !r.OK || !slices.ContainsFunc(r.Findings, func(f doctor.Finding) bool { return f.Check == "websocket" && f.Code == doctor.OutOfTime }) {
		t.Errorf("%v", codes(r))
	}
}
