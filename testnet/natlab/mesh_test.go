//go:build linux

package natlab_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/peerservers/peerserver/testnet/certs"
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
	var of certs.Leaf
	for i := range nodes {
		nodes[i] = m.lab.Server(fmt.Sprint("node", i))
		m.urls[i] = "wss://" + nodes[i].Addr().String()
		of.Names = append(of.Names, nodes[i].Addr().String())
	}
	ca := certs.New(t)
	m.ca = ca.File(t)
	cert, key := ca.Files(t, of)
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
