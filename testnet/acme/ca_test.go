package acme

import (
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"
)

// authority is a CA with its own DNS, in which all of .test is this machine.
type authority struct {
	t       *testing.T
	handler http.Handler
	server  *httptest.Server // nil: it is down
	addr    string
	ca      *ca.CAImpl
	trust   string // file with the certificate of its own server
}

// startCA runs a CA that asks for challenges at these ports, and whose
// certificates last so many seconds.
func startCA(t *testing.T, tlsPort, httpPort int, seconds uint64) *authority {
	t.Helper()
	quiet := log.New(io.Discard, "", 0)
	store := db.NewMemoryStore()
	a := &authority{t: t, ca: ca.New(quiet, store, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {ValidityPeriod: seconds}})}
	checks := va.New(quiet, httpPort, tlsPort, false, startDNS(t), store)
	front := wfe.New(quiet, store, checks, a.ca, []string{"pebble.test"}, false, false, 1, 1)
	a.handler = front.Handler()
	a.up()
	t.Cleanup(a.down)
	a.trust = filepath.Join(t.TempDir(), "ca.pem")
	b := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.server.Certificate().Raw})
	if err := os.WriteFile(a.trust, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

// up starts the CA's server, where it was before.
func (a *authority) up() {
	at := a.addr
	if at == "" {
		at = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", at)
	if err != nil {
		a.t.Fatal(err)
	}
	a.addr = l.Addr().String()
	a.server = httptest.NewUnstartedServer(a.handler)
	a.server.Listener.Close()
	a.server.Listener = l
	a.server.StartTLS()
}

func (a *authority) down() {
	if a.server != nil {
		a.server.Close()
		a.server = nil
	}
}

// roots are what a client has to trust for the certificates that it gives.
func (a *authority) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(a.ca.GetRootCert(0).PEM())
	return pool
}

func startDNS(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") // pebble asks over TCP
	if err != nil {
		t.Fatal(err)
	}
	s := &dns.Server{Listener: l, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		if len(q.Question) == 1 && q.Question[0].Qtype == dns.TypeA {
			m.Answer = append(m.Answer, &dns.A{
				Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}, A: net.IPv4(127, 0, 0, 1),
			})
		}
		_ = w.WriteMsg(m)
	})}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = s.ActivateAndServe() }()
	t.Cleanup(func() {
		_ = s.Shutdown()
		<-ended
	})
	return l.Addr().String()
}
