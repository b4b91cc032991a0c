// Package certs makes throw-away certificates, for tests of what speaks TLS.
//
//	ca := certs.New(t)
//	cert, key := ca.Files(t, certs.Leaf{Names: []string{"node.test"}})
//	client := ca.Client("node.test") // a *tls.Config that trusts it
package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

const day = 24 * time.Hour

// CA signs certificates. Its own is good at any time, that of synctest included.
type CA struct {
	cert   *x509.Certificate
	key    crypto.Signer
	serial atomic.Int64 // of the newest certificate
}

// Leaf says what a certificate is to be like. The zero value is for this machine,
// and good for 30 days more.
type Leaf struct {
	Names  []string  // host names, also as *.node.test, and IP addresses; none: localhost and 127.0.0.1
	From   time.Time // zero: 90 days before Until
	Until  time.Time // zero: in 30 days
	Serial int64     // 0: one that the CA has not given yet
	RSA    bool      // its key, in place of ECDSA
}

// New makes a CA that nobody knows.
func New(t testing.TB) *CA {
	t.Helper()
	c := &CA{key: newKey(t, false)}
	of := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "a CA for tests"}, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, of, of, c.key.Public(), c.key)
	must(t, err)
	c.cert, err = x509.ParseCertificate(der)
	must(t, err)
	c.serial.Store(1)
	return c
}

// Pool is for clients that trust the CA.
func (c *CA) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(c.cert)
	return p
}

// Client is for a client that trusts the CA, and wants a server of this name; ""
// is the host that it dials.
func (c *CA) Client(name string) *tls.Config {
	return &tls.Config{RootCAs: c.Pool(), ServerName: name, MinVersion: tls.VersionTLS12}
}

// File is the CA's own certificate in PEM, as programs take it with
// SSL_CERT_FILE. It is gone with the test.
func (c *CA) File(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.pem")
	must(t, os.WriteFile(path, encode("CERTIFICATE", c.cert.Raw), 0o600))
	return path
}

// Certificate is for a server of this process.
func (c *CA) Certificate(t testing.TB, l Leaf) tls.Certificate {
	t.Helper()
	key := newKey(t, l.RSA)
	der, err := x509.CreateCertificate(rand.Reader, c.template(l), c.cert, key.Public(), c.key)
	must(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (c *CA) template(l Leaf) *x509.Certificate {
	if l.Until.IsZero() {
		l.Until = time.Now().Add(30 * day)
	}
	if l.From.IsZero() {
		l.From = l.Until.Add(-90 * day)
	}
	if l.Serial == 0 {
		l.Serial = c.serial.Add(1)
	}
	if len(l.Names) == 0 {
		l.Names = []string{"localhost", "127.0.0.1"}
	}
	of := &x509.Certificate{
		SerialNumber: big.NewInt(l.Serial), Subject: pkix.Name{CommonName: "a server for tests"}, NotBefore: l.From, NotAfter: l.Until,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range l.Names {
		if ip := net.ParseIP(name); ip != nil {
			of.IPAddresses = append(of.IPAddresses, ip)
		} else {
			of.DNSNames = append(of.DNSNames, name)
		}
	}
	return of
}

// PEM is a certificate and its key, as operators have them.
func (c *CA) PEM(t testing.TB, l Leaf) (cert, key []byte) {
	t.Helper()
	made := c.Certificate(t, l)
	secret, err := x509.MarshalPKCS8PrivateKey(made.PrivateKey)
	must(t, err)
	return encode("CERTIFICATE", made.Certificate[0]), encode("PRIVATE KEY", secret)
}

// Files are what PEM gives, as files that are gone with the test.
func (c *CA) Files(t testing.TB, l Leaf) (cert, key string) {
	t.Helper()
	return c.FilesIn(t, t.TempDir(), l)
}

// FilesIn are what PEM gives, as cert.pem and key.pem of a folder.
func (c *CA) FilesIn(t testing.TB, dir string, l Leaf) (cert, key string) {
	t.Helper()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	first, second := c.PEM(t, l)
	must(t, os.WriteFile(cert, first, 0o600))
	must(t, os.WriteFile(key, second, 0o600))
	return cert, key
}

func newKey(t testing.TB, old bool) (key crypto.Signer) {
	t.Helper()
	var err error
	if old {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	must(t, err)
	return key
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
