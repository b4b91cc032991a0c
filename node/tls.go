package node

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/peerservers/peerserver/node/door"
)

// certLookEvery is how often the node looks for a newer certificate: in its files,
// or at what was got from the CA.
const certLookEvery = 5 * time.Second

// certificates are what the node shows in TLS handshakes, and keeps up to date
// while it runs.
type certificates struct {
	// Static.
	log    *slog.Logger
	names  []string // that a CA gives certificates for; nil: they are in files
	acme   *acmeKeeper
	files  *certFiles
	http   net.Listener // where a CA may ask over HTTP, nil: nowhere
	config *tls.Config

	// One for each name, or that of the files. Each is nil until there is one.
	slots []atomic.Pointer[tls.Certificate]
	// Why there is no newer one, nil: nothing is known.
	trouble atomic.Pointer[error]
	// Owned by serve.
	said string
}

// openTLS gets the certificates that the node has; without any it speaks no TLS.
func (n *Node) openTLS() error {
	cfg := &n.cfg
	c := &certificates{log: n.log, slots: make([]atomic.Pointer[tls.Certificate], max(1, len(cfg.TLSDomains)))}
	protos := []string{"http/1.1", "stun.turn", "stun.nat-discovery"}
	switch {
	case len(cfg.TLSDomains) > 0:
		if err := c.openACME(n); err != nil {
			return err
		}
		protos = append(protos, acme.ALPNProto)
		if len(cfg.URLs) == 0 {
			cfg.URLs = linkURLs(c.names, n.listener.Addr())
		}
	case cfg.TLSCert != "":
		c.files = &certFiles{cert: cfg.TLSCert, key: cfg.TLSKey, certs: c}
		if err := c.files.open(); err != nil {
			return err
		}
	default:
		return nil
	}
	c.config = &tls.Config{
		// No HTTP/2: a browser that speaks it would want its WebSockets there too, and
		// Go's server has none (RFC 8441).
		MinVersion: tls.VersionTLS12, NextProtos: protos, GetCertificate: c.get,
	}
	n.certs = c
	return nil
}

// linkURLs are where others reach a node that has certificates for these names.
func linkURLs(names []string, listener net.Addr) (urls []string) {
	port := ""
	if tcp, ok := listener.(*net.TCPAddr); ok && tcp.Port != 443 {
		port = ":" + strconv.Itoa(tcp.Port)
	}
	for _, name := range names {
		urls = append(urls, "wss://"+name+port)
	}
	return urls
}

// tlsConfig is for every listener of the node that speaks TLS; nil: it has no
// certificate.
func (n *Node) tlsConfig() *tls.Config {
	if n.certs == nil {
		return nil
	}
	return n.certs.config
}

// secure puts the node's TLS around another listener of its own.
func (n *Node) secure(l net.Listener) net.Listener { return door.Secure(l, n.tlsConfig()) }

// port is what the node's port is for.
func (n *Node) port() door.Port { return door.Port{TLS: n.tlsConfig(), STUN: n.onSTUN} }

// URLs are where other nodes are told to reach this one, as far as the operator or
// a certificate has said.
func (n *Node) URLs() []string { return slices.Clone(n.cfg.URLs) }

// TLS are the host names for which the node has certificates, or is to get them
// from a CA. It is nil where the node's port speaks no TLS.
func (n *Node) TLS() []string {
	if n.certs == nil {
		return nil
	}
	return n.certs.hosts()
}

// get is for tls.Config. Who asks for a host that is not the node's gets nothing,
// which is the alert unrecognized_name. The operator's own files are shown to
// all: clients judge them by names of their own.
func (c *certificates) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c.acme != nil && len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == acme.ALPNProto {
		return c.acme.manager.GetCertificate(hello)
	}
	var first *tls.Certificate
	for i := range c.slots {
		cert := c.slots[i].Load()
		switch {
		case cert == nil:
		case hello.ServerName != "" && cert.Leaf.VerifyHostname(hello.ServerName) == nil:
			return cert, nil
		case first == nil:
			first = cert
		}
	}
	if hello.ServerName != "" && c.names != nil {
		return nil, nil
	}
	return first, nil
}

// hosts are names, or what the certificate in the files is for.
func (c *certificates) hosts() []string {
	if c.names != nil {
		return c.names
	}
	if cert := c.slots[0].Load(); cert != nil {
		return append([]string{}, cert.Leaf.DNSNames...) // it may be for addresses alone
	}
	return []string{}
}

// isFor says whether the node proves in a handshake that it is this host.
func (c *certificates) isFor(host string) bool {
	if c == nil {
		return false
	}
	for i := range c.slots {
		if cert := c.slots[i].Load(); cert != nil && cert.Leaf.VerifyHostname(host) == nil {
			return true
		}
	}
	return slices.Contains(c.names, strings.ToLower(host))
}

// take makes a certificate the one that is shown. Connections that there are
// live on.
func (c *certificates) take(slot int, cert *tls.Certificate) {
	c.slots[slot].Store(cert)
	c.trouble.Store(nil)
	c.log.Info("certificate", "hosts", cert.Leaf.DNSNames, "until", cert.Leaf.NotAfter.UTC())
}

// failed notes why there is no newer certificate.
func (c *certificates) failed(err error) { c.trouble.Store(&err) }

// serveTLS keeps the certificates up to date until ctx ends.
func (n *Node) serveTLS(ctx context.Context) error {
	c := n.certs
	var parts sync.WaitGroup
	defer parts.Wait()
	if c.acme != nil {
		c.acme.serve(ctx, &parts)
	}
	if c.http != nil {
		server := newServer(c.acme.manager.HTTPHandler(http.HandlerFunc(n.toHTTPS)))
		parts.Go(func() {
			if err := serveHTTP(server, n.host.Listen(c.http)); err != nil {
				c.log.Error("the port for HTTP has failed", "err", err)
			}
		})
		defer server.Close()
	}
	for {
		c.speak(time.Now())
		if !sleep(ctx, certLookEvery) {
			return nil
		}
		if c.files != nil {
			c.files.look()
		}
	}
}

// speak logs what is wrong with the certificates, once.
func (c *certificates) speak(now time.Time) {
	fault := c.fault(now)
	if fault == c.said || (fault == faultNone && c.acme != nil && c.trouble.Load() == nil) {
		return // a CA takes a moment for the first certificate
	}
	if c.said = fault; fault == "" {
		c.log.Info("the certificate is good again")
		return
	}
	why := errors.New("nothing newer has come")
	if known := c.trouble.Load(); known != nil {
		why = *known
	} else if c.acme != nil {
		if err := c.acme.ca.trouble(now.Add(acmeSettle)); err != nil {
			why = err
		}
	}
	c.log.Warn("trouble with the certificate; the node goes on with what it has", "what", fault, "why", why)
}

// Faults of a certificate, as /stats.json shows them.
const (
	faultNone    = "there is no certificate yet"
	faultExpired = "the certificate has expired"
	faultSoon    = "the certificate expires soon"
	faultRenewal = "the certificate is not renewed"
	faultFiles   = "the files of the certificate cannot be used"
)

// maxSoon is the longest time before its end at which a certificate should have
// been renewed; for those that live short it is a fifth of that.
const maxSoon = 14 * 24 * time.Hour

// fault is what is wrong, "" if nothing is.
func (c *certificates) fault(now time.Time) (fault string) {
	if c.trouble.Load() != nil {
		if fault = faultRenewal; c.files != nil {
			fault = faultFiles
		}
	}
	for i := range c.slots {
		cert := c.slots[i].Load()
		if cert == nil {
			return faultNone
		}
		switch l := cert.Leaf; {
		case now.After(l.NotAfter):
			return faultExpired
		case l.NotAfter.Sub(now) < min(l.NotAfter.Sub(l.NotBefore)/5, maxSoon) && fault == "":
			fault = faultSoon
		}
	}
	return fault
}

// notAfter is when the first of the certificates ends; zero: there is none.
func (c *certificates) notAfter() (first time.Time) {
	for i := range c.slots {
		if cert := c.slots[i].Load(); cert != nil && (first.IsZero() || cert.Leaf.NotAfter.Before(first)) {
			first = cert.Leaf.NotAfter.UTC()
		}
	}
	return first
}

// TLSStats is what a node shows of its certificates.
type TLSStats struct {
	Names    []string  `json:"names"`
	NotAfter time.Time `json:"not_after,omitzero"` // the end of the first that ends
	Fault    string    `json:"fault,omitempty"`    // in words, for people
}

func (c *certificates) stats() *TLSStats {
	if c == nil {
		return nil
	}
	return &TLSStats{Names: c.hosts(), NotAfter: c.notAfter(), Fault: c.fault(time.Now())}
}

func (c *certificates) close() {
	if c != nil && c.http != nil {
		c.http.Close()
	}
}
