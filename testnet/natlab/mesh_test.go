//go:build linux

package natlab_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/peerservers/peerserver/testnet/natlab"

	// What the program under test is made of: go test forgets a pass when it changes.
	_ "github.com/peerservers/peerserver/node"
)

// buildNode returns a new binary of the program.
func buildNode(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "peerserver")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", path, "github.com/peerservers/peerserver/cmd/peerserver")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return path
}

// mesh is a lab with two nodes that know each other.
type mesh struct {
	lab  *natlab.Lab
	urls [2]string
	ca   string // file of who signed the nodes' certificates
}

// startMesh starts the nodes as an operator would who has public addresses and
// certificates, with more flags for each.
func startMesh(t *testing.T, binary string, config natlab.Config, more ...string) *mesh {
	t.Helper()
	m := &mesh{lab: natlab.Start(t, config)}
	var nodes [2]*natlab.Host
	var at []netip.Addr
	for i := range nodes {
		nodes[i] = m.lab.Server(fmt.Sprint("node", i))
		m.urls[i] = "wss://" + nodes[i].Addr().String()
		at = append(at, nodes[i].Addr())
	}
	var cert, key string
	m.ca, cert, key = certificates(t, at)
	for i, host := range nodes {
		args := append([]string{
			"SSL_CERT_FILE=" + m.ca, binary,
			"node", "--listen", host.Addr().String() + ":443", "--tls-cert", cert, "--tls-key", key,
			"--url", m.urls[i], "--peer", "https" + m.urls[1-i][len("wss"):],
			"--data=", "--admin=", "--dht=false", "--json",
		}, more...)
		host.Start(t, "env", args...).Await(patience, "start", func(string) bool { return true })
	}
	return m
}

// join starts a peer on a machine, which joins on node i.
func (m *mesh) join(t *testing.T, h *natlab.Host, i int, app string) *natlab.Process {
	t.Helper()
	return h.StartSelf(t, "peer", "--ca", m.ca, "--node", m.urls[i], "--app", app)
}

// certificates makes a CA, and a certificate for some addresses; what it returns
// are files.
func certificates(t *testing.T, at []netip.Addr) (ca, cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	one := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "natlab"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, // it signs itself
	}
	for _, a := range at {
		one.IPAddresses = append(one.IPAddresses, a.AsSlice())
	}
	der, err := x509.CreateCertificate(rand.Reader, one, one, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, cert, key
}
