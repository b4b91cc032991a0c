package certs_test

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"testing"
	"time"

	"github.com/peerservers/peerserver/testnet/certs"
)

// TestLeaf: a certificate is good for its names and its time, with its CA alone.
func TestLeaf(t *testing.T) {
	ca, other := certs.New(t), certs.New(t)
	now := time.Now()
	for _, c := range []struct {
		name string
		leaf certs.Leaf
		host string
		by   *certs.CA
		at   time.Time
		good bool
	}{
		{"of this machine", certs.Leaf{}, "localhost", ca, now, true},
		{"of its address", certs.Leaf{}, "127.0.0.1", ca, now, true},
		{"of a name", certs.Leaf{Names: []string{"node.test", "*.nodes.test"}}, "a.nodes.test", ca, now, true},
		{"of another name", certs.Leaf{Names: []string{"node.test"}}, "localhost", ca, now, false},
		{"of another CA", certs.Leaf{}, "localhost", other, now, false},
		{"with a key of RSA", certs.Leaf{RSA: true}, "localhost", ca, now, true},
		{"that has ended", certs.Leaf{Until: now.Add(-time.Hour)}, "localhost", ca, now, false},
		{"that has not ended then", certs.Leaf{Until: now.Add(-time.Hour)}, "localhost", ca, now.Add(-2 * time.Hour), true},
		{"too early", certs.Leaf{From: now.Add(time.Hour)}, "localhost", ca, now, false},
		{"in synctest", certs.Leaf{From: time.Unix(0, 0)}, "localhost", ca, time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), true},
	} {
		made, err := x509.ParseCertificate(ca.Certificate(t, c.leaf).Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		_, err = made.Verify(x509.VerifyOptions{DNSName: c.host, Roots: c.by.Pool(), CurrentTime: c.at})
		if (err == nil) != c.good {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestFiles: the files are a pair that a server takes, each has a serial of its
// own, and that of the CA is one that a program can trust.
func TestFiles(t *testing.T) {
	ca := certs.New(t)
	seen := make(map[string]bool)
	for _, l := range []certs.Leaf{{}, {}, {RSA: true}, {Serial: 101}} {
		pair, err := tls.LoadX509KeyPair(ca.Files(t, l))
		if err != nil {
			t.Fatal(err)
		}
		serial := pair.Leaf.SerialNumber
		if seen[serial.String()] || l.Serial != 0 && serial.Int64() != l.Serial {
			t.Errorf("%+v has the serial %v", l, serial)
		}
		seen[serial.String()] = true
	}
	b, err := os.ReadFile(ca.File(t))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) || !pool.Equal(ca.Pool()) {
		t.Error("the file of the CA is not its certificate")
	}
}
