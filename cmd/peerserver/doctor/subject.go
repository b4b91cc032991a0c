package doctor

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/peerservers/peerserver/node"
	"github.com/peerservers/peerserver/protocol"
)

const (
	stepWithin = 8 * time.Second // for one request
	maxAnswer  = 1 << 20         // bytes of an answer
)

// subject is the node that is looked at.
type subject struct {
	// Static after find.
	opts    Options
	base    *url.URL // http or https, host and port, nothing else; nil: it is not known
	token   string
	client  *http.Client // looks past a bad certificate, which is a finding of its own
	verify  *http.Client // does not
	answers bool
	near    bool   // its host is loopback or private
	node    string // its id as it says
	self    *node.Self
	stats   *node.Stats                 // nil: the node is private
	about   *node.Description           // of /.well-known/peerserver
	record  *protocol.SignedRecord      // as it is there; nil: none
	seen    *sight                      // nil: the node does not tell
	login   func() (*membership, error) // once
	stun    func() (*heard, error)      // once
	running sync.WaitGroup
}

// sight is an answer of /v1/seen, and when it was asked.
type sight struct {
	node.Seen
	asked time.Time // half way between the question and the answer
	trip  time.Duration
}

// find finds the node, and asks it for what the checks look at.
func find(ctx context.Context, o Options) (*subject, []Finding) {
	s := &subject{opts: o}
	s.login = sync.OnceValues(func() (*membership, error) { return s.logIn(ctx) })
	s.stun = sync.OnceValues(func() (*heard, error) { return s.askSTUN(ctx) })
	if o.URL == "" {
		if f := s.findHere(ctx); f != nil {
			return s, one(*f)
		}
	} else if err := s.take(o.URL); err != nil {
		return s, one(bad(NodeDown, "%v.", err).of("node"))
	}
	f := s.ask(ctx)
	found := one(f.of("node"))
	if o.URL == "" && s.answers {
		found = append(found, s.outside(ctx)...)
	}
	return s, found
}

func (f Finding) of(check string) Finding {
	f.Check = check
	return f
}

// take reads a URL as people write it. Without a scheme it is https, but http
// for an address.
func (s *subject) take(given string) error {
	if !strings.Contains(given, "://") {
		host, _, err := net.SplitHostPort(given)
		if err != nil {
			host = given
		}
		if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil || host == "localhost" {
			given = "http://" + given
		} else {
			given = "https://" + given
		}
	}
	u, err := url.Parse(given)
	if err != nil || u.Host == "" || u.Hostname() == "" {
		return fmt.Errorf("%q is no URL of a node, such as https://node.example.org or ws://192.0.2.1:8787", given)
	}
	scheme, known := map[string]string{"http": "http", "ws": "http", "https": "https", "wss": "https"}[strings.ToLower(u.Scheme)]
	if !known {
		return fmt.Errorf("%q begins with neither https://, wss://, http:// nor ws://", given)
	}
	s.token = u.Query().Get("token")
	if rest, has := strings.CutPrefix(u.Path, "/t/"); has && s.token == "" {
		s.token, _, _ = strings.Cut(rest, "/")
	}
	s.use(&url.URL{Scheme: scheme, Host: u.Host})
	return nil
}

func (s *subject) use(base *url.URL) {
	s.close()
	s.base = base
	a, err := netip.ParseAddr(base.Hostname())
	s.near = base.Hostname() == "localhost" || err == nil && !protocol.Public(a.Unmap())
	s.client = &http.Client{Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: s.lenient(), ForceAttemptHTTP2: true,
	}, Timeout: stepWithin, CheckRedirect: noRedirect}
	s.verify = &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment}, Timeout: stepWithin, CheckRedirect: noRedirect}
}

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// lenient takes any certificate, unless there is a token to be kept from whoever
// shows a wrong one. What is wrong with it is a finding of its own; the other
// checks send nothing that is secret.
func (s *subject) lenient() *tls.Config {
	return &tls.Config{RootCAs: s.opts.Roots, InsecureSkipVerify: s.token == ""} //nolint:gosec // see above
}

// close ends what is open.
func (s *subject) close() {
	s.running.Wait()
	for _, c := range []*http.Client{s.client, s.verify} {
		if c != nil {
			c.CloseIdleConnections()
		}
	}
}

// shown is the URL without its token.
func (s *subject) shown() string {
	if s.base == nil {
		return s.opts.URL
	}
	return s.base.String()
}

// ws is the URL as clients dial it, without a path.
func (s *subject) ws() string { return "ws" + strings.TrimPrefix(s.base.String(), "http") }

// address is host:port.
func (s *subject) address() string {
	port := s.base.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[s.base.Scheme]
	}
	return net.JoinHostPort(s.base.Hostname(), port)
}

// path is a URL at the node, with the token.
func (s *subject) path(base, path string) string {
	if s.token == "" {
		return base + path
	}
	return base + path + "?token=" + url.QueryEscape(s.token)
}

// ask asks the node who it is.
func (s *subject) ask(ctx context.Context) Finding {
	var about node.Description
	status, err := s.get(ctx, "/.well-known/peerserver", &about)
	switch {
	case err != nil && status == 0:
		return bad(NodeDown, "Nothing answers at %s: %s.", s.base, why(err))
	case status == http.StatusBadGateway || status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout:
		return bad(ProxyNoNode, "A proxy answers at %s, and does not reach the node: it says %d.", s.base, status)
	case err != nil || status != http.StatusOK || about.Version == 0:
		return bad(NodeOther, "What answers at %s is no peerserver: /.well-known/peerserver gives status %d.", s.base, status)
	}
	s.answers, s.about, s.node = true, &about, about.Node.String()
	if len(about.Record) > 0 {
		s.record = new(protocol.SignedRecord)
		if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(about.Record, s.record); err != nil {
			s.record = &protocol.SignedRecord{} // verifies as nothing
		}
	}
	s.look(ctx)
	var health struct{ Status string }
	if status, _ := s.get(ctx, "/health", &health); status == http.StatusServiceUnavailable {
		return bad(NodeDraining, "The node answers, and is about to stop.")
	}
	var stats node.Stats
	status, err = s.get(ctx, "/stats.json", &stats)
	if status == http.StatusForbidden {
		return bad(NodeDenied, "The node answers, and is private: without a token not all of it can be looked at.")
	}
	if err != nil {
		return bad(NodeOther, "The node answers, but not at /stats.json: status %d.", status)
	}
	s.stats = &stats
	return ok("The node %s answers: version %s, up for %s, %d clients, %d links.",
		short(s.node), stats.Version, length(time.Duration(stats.Uptime)*time.Second), stats.Clients.Clients, stats.Relay.Links)
}

// look asks how the node sees this machine. The quickest of some answers says
// best what its clock shows.
func (s *subject) look(ctx context.Context) {
	for range 3 {
		var seen node.Seen
		began := time.Now()
		status, err := s.get(ctx, "/v1/seen", &seen)
		trip := time.Since(began)
		if err != nil || status != http.StatusOK || seen.Time == 0 {
			return
		}
		if s.seen == nil || trip < s.seen.trip {
			s.seen = &sight{seen, began.Add(trip / 2), trip}
		}
	}
}

// get fetches JSON. The status is 0 when there was no answer.
func (s *subject) get(ctx context.Context, path string, v any) (status int, err error) {
	return get(ctx, s.client, s.path(s.base.String(), path), v)
}

func get(ctx context.Context, client *http.Client, at string, v any) (status int, err error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return 0, err
	}
	answer, err := client.Do(q)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil || v == nil {
		return answer.StatusCode, err
	}
	return answer.StatusCode, json.Unmarshal(b, v)
}

// why is the cause of a failed request, without the URL and the addresses.
func why(err error) string {
	var op *net.OpError
	var name *net.DNSError
	switch {
	case errors.Is(err, context.DeadlineExceeded) || isTimeout(err):
		return "there was no answer in time"
	case errors.As(err, &name):
		return "the name " + name.Name + " is not found"
	case errors.As(err, &op):
		err = op.Err
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	return err.Error()
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// short is the beginning of an id.
func short(id string) string { return id[:min(len(id), 8)] }

// length is a time in its largest unit.
func length(d time.Duration) string {
	d = max(d, -d)
	for _, u := range []struct {
		name string
		of   time.Duration
	}{{"days", 24 * time.Hour}, {"hours", time.Hour}, {"minutes", time.Minute}} {
		if d >= 2*u.of {
			return fmt.Sprintf("%d %s", d.Round(u.of)/u.of, u.name)
		}
	}
	return fmt.Sprintf("%d seconds", d.Round(time.Second)/time.Second)
}
