package node

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

// certFolder is where, in the data folder, the certificates of a CA are, with
// their keys and that of the account.
const certFolder = "certificates"

// Durations of dealing with a CA.
const (
	acmeRetryFirst = 65 * time.Second // autocert keeps a failure for a minute
	acmeRetryMost  = time.Hour        // a CA bounds the failures of an hour
	acmeTimeout    = 30 * time.Second // of one request
	acmeMaxRetries = 4                // of one request that the CA could not serve just now
	acmeMaxWait    = 10               // seconds that a CA may have us wait: the end of the node waits with it
	acmeSettle     = 10 * time.Second // a trouble that is over by then was none
	maxACMEAnswer  = 1 << 20
)

// acmeKeeper gets the node's certificates from a CA, and newer ones when a third
// of their life is left. Handshakes never wait for the CA, nor have it asked.
type acmeKeeper struct {
	manager *autocert.Manager
	certs   *certificates
	ca      *caTransport
}

// openACME prepares for a CA; certificates that the node has are shown at once, even
// if they have ended meanwhile, since their end is what clients understand.
func (c *certificates) openACME(n *Node) (err error) {
	cfg := &n.cfg
	if n.data == nil {
		return errors.New("--tls-domain needs a data folder to keep its certificates in, since a CA gives only a few a week; name one with --data")
	}
	for _, d := range cfg.TLSDomains {
		c.names = append(c.names, strings.ToLower(d))
	}
	// Each CA has its own: those of a trial are not shown when it is over.
	folder := filepath.Join(n.data.path, certFolder, strings.ReplaceAll(hostPort(cfg.ACMEDirectory), ":", "_"))
	ca := &caTransport{next: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: acmeTimeout, MaxIdleConns: 2, IdleConnTimeout: time.Minute}}
	c.acme = &acmeKeeper{certs: c, ca: ca, manager: &autocert.Manager{
		Prompt: autocert.AcceptTOS, Cache: autocert.DirCache(folder), Email: cfg.ACMEEmail, HostPolicy: c.allow,
		Client: &acme.Client{
			DirectoryURL: cfg.ACMEDirectory, UserAgent: "peerserver/" + cfg.Version,
			HTTPClient: &http.Client{Transport: ca, Timeout: acmeTimeout}, RetryBackoff: ca.backoff,
		},
	}}
	for i, name := range c.names {
		if pem, err := os.ReadFile(filepath.Join(folder, name)); err == nil {
			if cert, err := tls.X509KeyPair(pem, pem); err == nil { // both are in it
				c.slots[i].Store(&cert)
			}
		}
	}
	if cfg.ACMEHTTP != "" {
		c.http, err = listen(cfg.ACMEHTTP, "acme-http")
	}
	return err
}

// allow is autocert's HostPolicy.
func (c *certificates) allow(_ context.Context, host string) error {
	if !slices.Contains(c.names, requestHost(host)) {
		return errors.New("this host is not served here")
	}
	return nil
}

// requestHost is the name in a Host header.
func requestHost(s string) string {
	if host, _, err := net.SplitHostPort(s); err == nil {
		s = host
	}
	return strings.ToLower(s)
}

// hostPort is the place of a URL, which was checked.
func hostPort(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return ""
	}
	return u.Host
}

// toHTTPS sends browsers that came by HTTP to the node's own port.
func (n *Node) toHTTPS(w http.ResponseWriter, q *http.Request) {
	host := requestHost(q.Host)
	switch {
	case !slices.Contains(n.certs.names, host):
		http.Error(w, "this host is not served here", http.StatusNotFound)
	case q.Method != http.MethodGet && q.Method != http.MethodHead:
		http.Error(w, "use https://", http.StatusBadRequest)
	default:
		at := strings.TrimPrefix(linkURLs([]string{host}, n.listener.Addr())[0], "wss")
		http.Redirect(w, q, "https"+at+q.URL.RequestURI(), http.StatusFound)
	}
}

// serve keeps the certificates of all names until ctx ends.
func (k *acmeKeeper) serve(ctx context.Context, parts *sync.WaitGroup) {
	k.ca.bound = func(q context.Context) (context.Context, context.CancelFunc) {
		q, cancel := context.WithCancel(q)
		stop := context.AfterFunc(ctx, cancel)
		return q, func() { stop(); cancel() }
	}
	if k.certs.http != nil {
		k.manager.HTTPHandler(nil) // which says that it is there
	}
	for i := range k.certs.names {
		parts.Go(func() { k.keep(ctx, i) })
	}
}

// keep has autocert get the certificate of one name, and looks now and then which
// one it has got since.
func (k *acmeKeeper) keep(ctx context.Context, i int) {
	hello := &tls.ClientHelloInfo{ServerName: k.certs.names[i], CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}}
	for retry := acmeRetryFirst; ; {
		wait := certLookEvery
		if cert, err := k.manager.GetCertificate(hello); err != nil && ctx.Err() == nil {
			k.certs.failed(k.ca.explain(k.certs.names[i], err))
			wait, retry = retry, min(2*retry, acmeRetryMost)
		} else if err == nil {
			retry = acmeRetryFirst
			k.look(i, cert)
		}
		if !sleep(ctx, wait) {
			return
		}
	}
}

// look takes a new certificate, or notes that the CA gives none.
func (k *acmeKeeper) look(i int, cert *tls.Certificate) {
	old := k.certs.slots[i].Load()
	if old == nil || !bytes.Equal(old.Certificate[0], cert.Certificate[0]) {
		k.ca.forget()
		k.certs.take(i, cert)
		return
	}
	if err := k.ca.trouble(time.Now()); err != nil {
		k.certs.failed(k.ca.explain(k.certs.names[i], err))
	}
}

// caTransport makes the requests to the CA. It remembers what went wrong, for
// autocert says nothing of renewals, and it ends with the node.
type caTransport struct {
	next  http.RoundTripper
	bound func(context.Context) (context.Context, context.CancelFunc) // set once, before the first request

	mu   sync.Mutex
	last error
	at   time.Time
}

// RoundTrip implements http.RoundTripper. The answer is read whole.
func (t *caTransport) RoundTrip(q *http.Request) (*http.Response, error) {
	ctx, cancel := t.bound(q.Context())
	defer cancel()
	r, err := t.next.RoundTrip(q.WithContext(ctx))
	if err != nil {
		return nil, t.note(err)
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxACMEAnswer))
	r.Body.Close()
	if err != nil {
		return nil, t.note(err)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	_ = t.note(problem(r.StatusCode, body))
	if seconds, err := strconv.Atoi(r.Header.Get("Retry-After")); err == nil && seconds > acmeMaxWait {
		r.Header.Set("Retry-After", strconv.Itoa(acmeMaxWait))
	}
	return r, nil
}

func (t *caTransport) note(err error) error {
	if err != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.last == nil {
			t.at = time.Now()
		}
		t.last = err
	}
	return err
}

func (t *caTransport) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = nil
}

// trouble is what went wrong since the last certificate, unless that may be over
// in a moment.
func (t *caTransport) trouble(now time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Sub(t.at) < acmeSettle {
		return nil
	}
	return t.last
}

// explain is an error with what the CA has said, which autocert leaves out, and
// with what to do.
func (t *caTransport) explain(name string, err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last != nil && !errors.Is(err, t.last) {
		err = fmt.Errorf("%w; the CA: %w", err, t.last)
	}
	return fmt.Errorf("certificate of %s: %w; the CA has to be reached from here, and to reach this node at %s by port 443 (this node's), or by port 80 with --acme-http; the node tries again by itself", name, err, name)
}

// backoff is how long to wait before a request is made again; negative: it is not.
func (t *caTransport) backoff(n int, _ *http.Request, _ *http.Response) time.Duration {
	if n > acmeMaxRetries {
		return -1
	}
	return time.Second << (n - 1)
}

// problem is what an answer of the CA complains of: a problem document, or a
// challenge that failed.
func problem(status int, body []byte) error {
	var m struct {
		Type, Detail, Status string
		Challenges           []struct {
			Error struct{ Detail string }
		}
	}
	if json.Unmarshal(body, &m) != nil && status < 500 {
		return nil // a certificate
	}
	switch {
	case strings.HasSuffix(m.Type, ":badNonce"):
		return nil // which is asked for again
	case status >= 400:
		return fmt.Errorf("HTTP %d %s", status, m.Detail)
	}
	for _, c := range m.Challenges {
		if m.Status == acme.StatusInvalid && c.Error.Detail != "" {
			return errors.New(c.Error.Detail)
		}
	}
	return nil
}
