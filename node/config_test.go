package node_test

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/peerservers/peerserver/node"
	"github.com/peerservers/peerserver/protocol"
)

// idOf starts a node with a data folder and gives it up again.
func idOf(t *testing.T, cfg node.Config) protocol.NodeID {
	t.Helper()
	cfg.Listen, cfg.Bootstrap = "127.0.0.1:0", []string{}
	n, err := node.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	return n.ID()
}

func TestKeyIsMadeOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "there", "yet")
	first, second := idOf(t, node.Config{Data: dir}), idOf(t, node.Config{Data: dir})
	if first != second {
		t.Errorf("%v is %v after a restart", first, second)
	}
	if other := idOf(t, node.Config{Data: t.TempDir()}); other == first {
		t.Error("another folder has the same key")
	}
	if a, b := idOf(t, node.Config{}), idOf(t, node.Config{}); a == b {
		t.Error("two nodes without a folder have the same key")
	}
	for name, want := range map[string]os.FileMode{dir: os.ModeDir | 0o700, filepath.Join(dir, "node.key"): 0o600} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if runtime.GOOS != "windows" && info.Mode() != want {
			t.Errorf("%s has mode %v, want %v", name, info.Mode(), want)
		}
	}
}

// A key may be made by others: it is PKCS #8, as openssl writes it.
func TestKeyOfAnother(t *testing.T) {
	dir := t.TempDir()
	public, key, _ := ed25519.GenerateKey(nil)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err := os.WriteFile(filepath.Join(dir, "node.key"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := idOf(t, node.Config{Data: dir}); got != protocol.NodeID(public) {
		t.Errorf("the node is %v, want %v", got, protocol.NodeID(public))
	}
	_, given, _ := ed25519.GenerateKey(nil)
	if got := idOf(t, node.Config{Data: dir, Key: given}); got != protocol.NodeID(given.Public().(ed25519.PublicKey)) {
		t.Error("a key that is given does not go before that of the folder")
	}
}

// fails checks that a node does not start, and that the error says why and
// what to do.
func fails(t *testing.T, cfg node.Config, says ...string) {
	t.Helper()
	if cfg.Listen == "" && cfg.Listener == nil {
		cfg.Listen = "127.0.0.1:0"
	}
	if cfg.Bootstrap == nil {
		cfg.Bootstrap = []string{} // nothing of a test is to leave the machine
	}
	n, err := node.New(cfg)
	if err == nil {
		n.Close()
		t.Errorf("it starts; want an error with %q", says)
		return
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%q does not say %q", err, s)
		}
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	keyed := func(text string, mode os.FileMode) string {
		dir := t.TempDir()
		path := filepath.Join(dir, "node.key")
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().String()

	fails(t, node.Config{Listen: taken}, taken+" is in use", "--listen 127.0.0.1:0")
	fails(t, node.Config{Admin: taken}, taken+" is in use", "--admin 127.0.0.1:0")
	fails(t, node.Config{Listen: "8787"}, "--listen 8787", "host:port", ":8787")
	fails(t, node.Config{Listen: "192.0.2.1:8787"}, "not an address of this machine", "--listen")
	fails(t, node.Config{Data: filepath.Join(file, "below")}, "data folder", "not a directory", "--data")
	fails(t, node.Config{Data: keyed("", 0o600)}, "node.key holds no ed25519 key", "move it away")
	fails(t, node.Config{Data: keyed(strings.Repeat("x", 5000), 0o600)}, "node.key is not a key file")
	for _, bad := range []string{"", "router.example", ":6881", "router.example:0", "router.example:dht", "https://router.example"} {
		fails(t, node.Config{Bootstrap: []string{bad}}, "bootstrap ", "host:port")
	}
	fails(t, node.Config{Peers: []string{"node.example"}}, "https://host[:port]")
	fails(t, node.Config{URLs: []string{"https://node.example"}}, "own URL", "wss://")
	fails(t, node.Config{AddressConns: 20_001}, "20001 connections", "-1")
	if runtime.GOOS != "windows" {
		fails(t, node.Config{Data: keyed("x", 0o640)}, "can be read by other users", "chmod 600")
	}
	if os.Getuid() > 0 {
		closed := t.TempDir()
		if err := os.Chmod(closed, 0o500); err != nil {
			t.Fatal(err)
		}
		fails(t, node.Config{Data: closed}, "permission denied", "--data")
	}
}

func TestFolderIsOfOneNode(t *testing.T) {
	switch runtime.GOOS {
	case "linux", "darwin", "freebsd":
	default:
		t.Skip("folders are not locked here")
	}
	dir := t.TempDir()
	n, err := node.New(node.Config{Data: dir, Listen: "127.0.0.1:0", Bootstrap: []string{}})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	fails(t, node.Config{Data: dir}, "another node has it (process ", "--data")
	n.Close()
	idOf(t, node.Config{Data: dir})
}

// What a failed start had opened is open to the next one.
func TestFailedStartLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := l.Addr().String()
	l.Close()
	for range 2 {
		fails(t, node.Config{Data: dir, Listen: free, Admin: "127.0.0.1:0", URLs: []string{"not a URL"}}, "not a URL")
	}
}

func TestDefaultData(t *testing.T) {
	home, xdg := t.TempDir(), t.TempDir()
	t.Setenv("HOME", home)
	for _, c := range []struct{ xdg, want string }{
		{"", filepath.Join(home, ".peerserver")},
		{"not/absolute", filepath.Join(home, ".peerserver")},
		{xdg, filepath.Join(xdg, "peerserver")},
	} {
		t.Setenv("XDG_DATA_HOME", c.xdg)
		if got, err := node.DefaultData(); err != nil || got != c.want {
			t.Errorf("with %q: %s, %v, want %s", c.xdg, got, err, c.want)
		}
	}
	t.Setenv("XDG_DATA_HOME", "")
	t.Setenv("HOME", "")
	if _, err := node.DefaultData(); err == nil || !strings.Contains(err.Error(), "--data") {
		t.Errorf("without a home folder: %v", err)
	}
}

// The quotas of an address follow the one number that is given.
func TestAddressConns(t *testing.T) {
	n, err := node.New(node.Config{Listen: "127.0.0.1:0", AddressConns: 2, NoDHT: true})
	if err != nil {
		t.Fatal(err)
	}
	serve(t, n)
	dial(t, n, "/")
	dial(t, n, "/")
	if answer, err := http.Get("http://" + n.Addr().String() + "/health"); err == nil {
		answer.Body.Close()
		t.Error("a third connection is served")
	}
}
