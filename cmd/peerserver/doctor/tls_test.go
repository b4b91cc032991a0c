package doctor_test

import (
	"crypto/tls"
	"io"
	"log"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/peerservers/peerserver/cmd/peerserver/doctor"
	"github.com/peerservers/peerserver/node"
	"github.com/peerservers/peerserver/testnet/certs"
)

const day = 24 * time.Hour

// TestCertificates gives real nodes certificates with one fault each. They are
// all of no CA that is known, too, except where this program knows it.
func TestCertificates(t *testing.T) {
	t.Parallel()
	ca, now := certs.New(t), time.Now()
	for _, c := range []struct {
		name  string
		of    certs.Leaf
		known bool // the CA is
		want  []doctor.Code
	}{
		{"a good one", certs.Leaf{}, true, nil},
		{"expired", certs.Leaf{Until: now.Add(-3 * day)}, true, []doctor.Code{doctor.TLSExpired}},
		{"soon", certs.Leaf{Until: now.Add(5 * day)}, true, []doctor.Code{doctor.TLSSoon}},
		{"not yet", certs.Leaf{From: now.Add(2 * day)}, true, []doctor.Code{doctor.TLSEarly}},
		{"of another name", certs.Leaf{Names: []string{"other.example"}}, true, []doctor.Code{doctor.TLSName}},
		{"of nobody", certs.Leaf{}, false, []doctor.Code{doctor.TLSUntrusted}},
		{"expired and of nobody", certs.Leaf{Until: now.Add(-3 * day)}, false, []doctor.Code{doctor.TLSExpired, doctor.TLSUntrusted}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cert, key := ca.Files(t, c.of)
			n := startNode(t, node.Config{TLSCert: cert, TLSKey: key})
			o := doctor.Options{URL: "https://" + n.Addr().String()}
			if c.known {
				o.Roots = ca.Pool()
			}
			r := run(t, o)
			var got []doctor.Code
			for _, f := range r.Findings {
				if f.Check == "tls" && f.State != doctor.OK && f.State != doctor.Skipped {
					got = append(got, f.Code)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
			if !slices.ContainsFunc(r.Findings, func(f doctor.Finding) bool { return f.Check == "login" && f.State == doctor.OK }) {
				t.Error("nothing else is looked at")
			}
		})
	}
}

// TestOldVersions: a proxy in front has versions of TLS that a node has not, be it
// with the ciphers of today or with those of then.
func TestOldVersions(t *testing.T) {
	t.Parallel()
	ca, n := certs.New(t), startNode(t, node.Config{})
	then := []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	for _, c := range []struct {
		name  string
		proxy *tls.Config
		rsa   bool
		old   bool
	}{
		{"from TLS 1.2 on", &tls.Config{MinVersion: tls.VersionTLS12}, false, false},
		{"TLS 1.1 too", &tls.Config{MinVersion: tls.VersionTLS11}, false, true},
		{"TLS 1.0 too", &tls.Config{MinVersion: tls.VersionTLS10}, false, true},
		{"TLS 1.0 with its ciphers alone", &tls.Config{MinVersion: tls.VersionTLS10, CipherSuites: then}, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			proxy := httptest.NewUnstartedServer(httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: n.Addr().String()}))
			c.proxy.Certificates = []tls.Certificate{ca.Certificate(t, certs.Leaf{RSA: c.rsa})}
			proxy.TLS, proxy.Config.ErrorLog = c.proxy, log.New(io.Discard, "", 0)
			proxy.StartTLS()
			defer proxy.Close()
			r := run(t, doctor.Options{URL: proxy.URL, Roots: ca.Pool()})
			if has(r, doctor.TLSOld) != c.old {
				t.Errorf("%v, want %s: %v", codes(r), doctor.TLSOld, c.old)
			}
		})
	}
}
