package doctor_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/peerservers/peerserver/node"
	"github.com/peerservers/peerserver/protocol"
)

const day = 24 * time.Hour

// ca signs certificates for tests.
type ca struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// leaf is what a certificate is to be like.
type leaf struct {
	left time.Duration // until it ends
	from time.Duration // from now; 0: for 80 days
	name string        // "": of this machine
}

func newCA(t *testing.T) *ca {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	of := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "a CA for tests"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-1000 * day), NotAfter: time.Now().Add(1000 * day), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, of, of, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &ca{cert, key}
}

func (c *ca) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(c.cert)
	return p
}

// files are a certificate and its key, for a node.
func (c *ca) files(t *testing.T, l leaf) (cert, key string) {
	t.Helper()
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if l.from == 0 {
		l.from = -80 * day
	}
	of := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "a node"}, NotBefore: time.Now().Add(l.from), NotAfter: time.Now().Add(l.left),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if l.name != "" {
		of.DNSNames, of.IPAddresses = []string{l.name}, nil
	}
	der, err := x509.CreateCertificate(rand.Reader, of, c.cert, &own.PublicKey, c.key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// description is what a node would say of itself with a record of some time.
func description(t *testing.T, key ed25519.PrivateKey, issued time.Duration, spoil bool) []byte {
	t.Helper()
	r := &protocol.Record{Seq: time.Now().Add(issued).UnixMilli(), TTL: protocol.RecordTTL, URLs: []string{"ws://127.0.0.1:8787"}}
	if err := protocol.SignRecord(key, r); err != nil {
		t.Fatal(err)
	}
	if spoil {
		r.Signed.Signature[0] ^= 1
	}
	raw, err := protojson.Marshal(r.Signed)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(node.Description{Version: protocol.Version, Node: r.Node, URLs: r.URLs, Record: raw})
	if err != nil {
		t.Fatal(err)
	}
	return b
}
