package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
)

const soon = 14 * 24 * time.Hour

// checkTLS looks at the certificate, at the versions, and at what plain http
// gives.
func (s *subject) checkTLS(ctx context.Context) []Finding {
	if s.base.Scheme != "https" {
		if s.near {
			return one(bad(NotTried, "There is no TLS at an address of this machine or network: pages from http:// can use it, those from https:// cannot."))
		}
		return one(bad(TLSNone, "There is no TLS at %s: pages from https:// cannot use the node.", s.base))
	}
	state, err := s.shake(ctx, tls.VersionTLS12, tls.VersionTLS13)
	if err != nil {
		if !s.answers {
			return nil // it has been said that nothing answers
		}
		return one(bad(TLSFailed, "No TLS handshake with %s: %s.", s.address(), why(err)))
	}
	found := s.judge(state.PeerCertificates, time.Now())
	found = append(found, s.checkVersions(ctx, state.Version)...)
	if s.stats != nil && s.stats.TLS != nil && s.stats.TLS.Fault != "" && len(found) > 0 && found[0].State == OK {
		found = append(found, bad(TLSRenewal, "The node says of its certificate: %s.", s.stats.TLS.Fault))
	}
	return append(found, s.checkPlain(ctx)...)
}

// name is the host that the certificate has to be for. A node of this machine
// that is not reached at its own name is asked for it.
func (s *subject) name() string {
	host := s.base.Hostname()
	if s.self != nil && s.near && s.stats != nil && s.stats.TLS != nil && len(s.stats.TLS.Names) > 0 {
		host = s.stats.TLS.Names[0]
	}
	return host
}

// shake is a handshake of one of these versions, whatever the certificate and the
// ciphers.
func (s *subject) shake(ctx context.Context, least, most uint16) (tls.ConnectionState, error) {
	ctx, cancel := context.WithTimeout(ctx, stepWithin)
	defer cancel()
	//nolint:gosec // what is wrong with the certificate is to be found out, and old versions are to be refused
	d := tls.Dialer{Config: &tls.Config{ServerName: s.name(), InsecureSkipVerify: true, MinVersion: least, MaxVersion: most, CipherSuites: ciphers()}}
	c, err := d.DialContext(ctx, "tcp", s.address())
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer c.Close()
	return c.(*tls.Conn).ConnectionState(), nil
}

// ciphers are all that there are: who has old versions may have old ciphers alone.
func ciphers() (all []uint16) {
	for _, c := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		all = append(all, c.ID)
	}
	return all
}

// judge looks at a chain as a browser does, but says all that is wrong.
func (s *subject) judge(chain []*x509.Certificate, now time.Time) (found []Finding) {
	if len(chain) == 0 {
		return one(bad(TLSFailed, "The server shows no certificate."))
	}
	leaf, rest := chain[0], x509.NewCertPool()
	for _, c := range chain[1:] {
		rest.AddCert(c)
	}
	at := now
	switch left := leaf.NotAfter.Sub(now); {
	case left <= 0:
		found = append(found, bad(TLSExpired, "The certificate has expired %s ago, on %s.", length(left), leaf.NotAfter.UTC().Format(time.DateOnly)))
		at = leaf.NotAfter
	case leaf.NotBefore.After(now):
		found = append(found, bad(TLSEarly, "The certificate is good from %s on only.", leaf.NotBefore.UTC().Format(time.DateTime)))
		at = leaf.NotBefore
	case left < min(soon, leaf.NotAfter.Sub(leaf.NotBefore)/5):
		found = append(found, bad(TLSSoon, "The certificate expires in %s.", length(left)))
	}
	if err := leaf.VerifyHostname(s.name()); err != nil {
		found = append(found, bad(TLSName, "The certificate is not for %s, but for %s.", s.name(), names(leaf)))
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: s.opts.Roots, Intermediates: rest, CurrentTime: at}); err != nil {
		found = append(found, bad(TLSUntrusted, "The certificate comes from no CA that this machine knows, or its chain has gaps: %s.", issuer(leaf, err)))
	}
	if len(found) == 0 {
		found = one(ok("The certificate is for %s, of %s, and good for %s more.", s.name(), leaf.Issuer.CommonName, length(leaf.NotAfter.Sub(now))))
	}
	return found
}

func issuer(leaf *x509.Certificate, err error) string {
	if leaf.Subject.String() == leaf.Issuer.String() {
		return "it is signed by itself"
	}
	return "its issuer is " + leaf.Issuer.String() + " (" + why(err) + ")"
}

func names(leaf *x509.Certificate) string {
	list := append([]string{}, leaf.DNSNames...)
	for _, ip := range leaf.IPAddresses {
		list = append(list, ip.String())
	}
	if len(list) == 0 {
		return "no name at all"
	}
	return strings.Join(list[:min(len(list), 5)], ", ")
}

// checkVersions says which versions of TLS there are.
func (s *subject) checkVersions(ctx context.Context, best uint16) []Finding {
	if old, err := s.shake(ctx, tls.VersionTLS10, tls.VersionTLS11); err == nil {
		return one(bad(TLSOld, "%s is taken too.", tls.VersionName(old.Version)))
	}
	return one(ok("%s, and none before TLS 1.2.", tls.VersionName(best)))
}

// checkPlain asks port 80 of the host, where people end up who type its name.
func (s *subject) checkPlain(ctx context.Context) []Finding {
	if s.near || (s.base.Port() != "" && s.base.Port() != "443") {
		return nil
	}
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(s.base.Hostname(), "80")+"/", nil)
	if err != nil {
		return nil
	}
	answer, err := s.verify.Do(q)
	if err != nil {
		return one(ok("Plain http:// is not answered."))
	}
	defer answer.Body.Close()
	if answer.StatusCode/100 == 3 && strings.HasPrefix(answer.Header.Get("Location"), "https://") {
		return one(ok("Plain http:// is redirected to https://."))
	}
	return one(bad(HTTPPlain, "http://%s is answered with %d, and not redirected to https://.", s.base.Hostname(), answer.StatusCode))
}
