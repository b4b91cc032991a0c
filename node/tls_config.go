package node

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"golang.org/x/crypto/acme/autocert"
	"golang.org/x/net/idna"

	"github.com/peerservers/peerserver/protocol"
)

// checkTLS checks what the node is told of its certificates.
func (c *Config) checkTLS() error {
	switch {
	case (c.TLSCert == "") != (c.TLSKey == ""):
		return fmt.Errorf("--tls-cert and --tls-key go together: a certificate and its key")
	case c.TLSCert != "" && len(c.TLSDomains) > 0:
		return fmt.Errorf("--tls-domain gets certificates by itself; leave it out, or --tls-cert and --tls-key")
	case len(c.TLSDomains) == 0 && (c.ACMEHTTP != "" || c.ACMEDirectory != "" || c.ACMEEmail != ""):
		return fmt.Errorf("--acme-http, --acme-directory and --acme-email are for --tls-domain, which is not given")
	case len(c.TLSDomains) > protocol.MaxRecordURLs:
		return fmt.Errorf("%d names of --tls-domain are over %d", len(c.TLSDomains), protocol.MaxRecordURLs)
	case c.LAN && (c.TLSCert != "" || len(c.TLSDomains) > 0):
		return fmt.Errorf("--lan is for nodes without TLS, since nodes on a LAN meet by address; run a second node for the LAN")
	case c.ACMEEmail != "" && (strings.Count(c.ACMEEmail, "@") != 1 || strings.ContainsAny(c.ACMEEmail, " ,?")):
		return fmt.Errorf("--acme-email %q is not an address such as admin@example.org", c.ACMEEmail)
	}
	for _, d := range c.TLSDomains {
		if err := checkDomain(d); err != nil {
			return err
		}
	}
	if c.ACMEDirectory == "" {
		c.ACMEDirectory = autocert.DefaultACMEDirectory
	}
	u, err := url.Parse(c.ACMEDirectory)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return fmt.Errorf("--acme-directory %q is not the URL of a CA's directory, such as %s", c.ACMEDirectory, autocert.DefaultACMEDirectory)
	}
	return nil
}

// checkDomain checks a name that a CA is to give a certificate for.
func checkDomain(name string) error {
	if _, err := netip.ParseAddr(name); err == nil || strings.Contains(name, "*") {
		return fmt.Errorf("--tls-domain %q: a CA gives certificates for single host names only, such as node.example.org; for others use --tls-cert and --tls-key", name)
	}
	ascii, err := idna.Lookup.ToASCII(name)
	if err != nil || !strings.Contains(strings.Trim(name, "."), ".") || strings.HasSuffix(name, ".") || strings.Contains(name, ":") {
		return fmt.Errorf("--tls-domain %q is not a host name such as node.example.org; leave out scheme, port and path", name)
	}
	if ascii != strings.ToLower(name) {
		return fmt.Errorf("--tls-domain %q has to be written as %q", name, ascii)
	}
	return nil
}
