package node

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// What an answer of a CA complains of.
func TestProblem(t *testing.T) {
	for body, want := range map[string]string{
		`200 {"status":"valid"}`:           "",
		`200 -----BEGIN CERTIFICATE-----`:  "",
		`200 `:                             "",
		`404 `:                             "",
		`500 down for maintenance`:         "HTTP 500 ",
		`503 {"detail":"come back later"}`: "HTTP 503 come back later",
		`429 {"type":"urn:x:rateLimited","detail":"a"}`:                                           "HTTP 429 a",
		`400 {"type":"urn:ietf:params:acme:error:badNonce","detail":"a"}`:                         "",
		`403 {"type":"urn:ietf:params:acme:error:unauthorized","detail":"a"}`:                     "HTTP 403 a",
		`200 {"status":"invalid","challenges":[{"error":null},{"error":{"detail":"no answer"}}]}`: "no answer",
		`200 {"status":"pending","challenges":[{"error":{"detail":"no answer"}}]}`:                "",
		`200 {"status":"invalid","challenges":[]}`:                                                "",
		`200 {"status":7}`:      "",
		`400 {"detail":["a"]}`:  "",
		`500 {"challenges":{}}`: "HTTP 500 ",
	} {
		status, text, _ := strings.Cut(body, " ")
		got := ""
		if err := problem(map[string]int{"200": 200, "400": 400, "403": 403, "404": 404, "429": 429, "500": 500, "503": 503}[status], []byte(text)); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %q, want %q", body, got, want)
		}
	}
}

// answers is a CA in memory.
type answers func(*http.Request) (*http.Response, error)

func (a answers) RoundTrip(q *http.Request) (*http.Response, error) { return a(q) }

// A request to the CA ends with the node; what it says is bounded, and so is how
// long it may have the node wait.
func TestCATransport(t *testing.T) {
	ctx, end := context.WithCancel(t.Context())
	asked := make(chan struct{})
	ca := &caTransport{next: answers(func(q *http.Request) (*http.Response, error) {
		if q.URL.Path == "/hangs" {
			close(asked)
			<-q.Context().Done()
			return nil, q.Context().Err()
		}
		return &http.Response{
			StatusCode: http.StatusServiceUnavailable, Header: http.Header{"Retry-After": {"86400"}},
			Body: io.NopCloser(io.LimitReader(zeros{}, 100<<20)),
		}, nil
	})}
	ca.bound = func(q context.Context) (context.Context, context.CancelFunc) {
		q, cancel := context.WithCancel(q)
		stop := context.AfterFunc(ctx, cancel)
		return q, func() { stop(); cancel() }
	}
	get := func(path string) (*http.Response, error) {
		q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://ca.test"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		return ca.RoundTrip(q)
	}
	r, err := get("/busy")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(r.Body)
	r.Body.Close()
	if len(body) != maxACMEAnswer || err != nil || r.Header.Get("Retry-After") != "10" {
		t.Errorf("%d bytes, wait %s, %v", len(body), r.Header.Get("Retry-After"), err)
	}
	if err := ca.trouble(time.Now()); err != nil {
		t.Errorf("too early: %v", err)
	}
	if err := ca.trouble(time.Now().Add(time.Minute)); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("the trouble is %v", err)
	}
	ca.forget()
	if err := ca.trouble(time.Now().Add(time.Minute)); err != nil {
		t.Errorf("it is over: %v", err)
	}
	go func() { <-asked; end() }()
	if _, err := get("/hangs"); !errors.Is(err, context.Canceled) {
		t.Errorf("the node has ended: %v", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return copy(p, bytes.Repeat([]byte{'0'}, len(p))), nil }

// A CA that takes connections and says nothing does not hold up the end of the
// node, and until there is a certificate handshakes fail at once.
func TestMuteCA(t *testing.T) {
	ca, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ca.Close()
	n, err := New(Config{
		Listen: "127.0.0.1:0", NoDHT: true, STUN: none, Data: t.TempDir(), TLSDomains: []string{"node.test"},
		ACMEDirectory: "https://" + ca.Addr().String() + "/dir",
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Serve(ctx) }()
	c, err := ca.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := tls.Dial("tcp", n.Addr().String(), &tls.Config{ServerName: "node.test"}); err == nil || !strings.Contains(err.Error(), "unrecognized name") {
		t.Errorf("a handshake: %v", err)
	}
	if s := n.Stats().TLS; s.Fault != faultNone || !s.NotAfter.IsZero() {
		t.Errorf("%+v", s)
	}
	stop()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the node does not end")
	}
}
