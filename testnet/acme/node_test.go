package acme

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is how long a test waits for what must come.
const patience = time.Minute

// program is the peerserver that is tested.
var program string

func TestMain(m *testing.M) { os.Exit(withProgram(m)) }

func withProgram(m *testing.M) int {
	dir, err := os.MkdirTemp("", "acme-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "peerserver")
	build := exec.Command("go", "build", "-o", program, "./cmd/peerserver")
	build.Dir, build.Stderr = "../..", os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "the program cannot be built:", err)
		return 1
	}
	os.Setenv("PEBBLE_VA_NOSLEEP", "1")
	return m.Run()
}

// node is a process of the program.
type node struct {
	t    *testing.T
	port int
	log  logs
	ws   string // as it says itself
	end  func()
}

// logs is what a node has logged.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// lines are those with a text in them.
func (l *logs) lines(with string) (lines []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.b.String()) {
		if strings.Contains(line, with) {
			lines = append(lines, line)
		}
	}
	return lines
}

// listen opens a port for a node.
func listen(t *testing.T) *net.TCPListener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.(*net.TCPListener)
}

func port(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }

// startNode runs a node at a port that is open, until the test ends.
func startNode(t *testing.T, a *authority, l *net.TCPListener, data string, args ...string) *node {
	t.Helper()
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := &node{t: t, port: port(l)}
	cmd := exec.Command(program, append([]string{
		"node", "--listen-fd", "3", "--dht=false", "--stun", "none", "--admin=", "--data", data, "--json", "--end-with-stdin",
		"--tls-domain", "node.test", "--acme-directory", "https://" + a.addr + "/dir",
	}, args...)...)
	cmd.ExtraFiles, cmd.Stderr = []*os.File{f}, &n.log
	cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+a.trust)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	n.end = sync.OnceFunc(func() {
		in.Close()
		stuck := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		defer stuck.Stop()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the node: %v\n%s", err, n.log.lines(""))
		}
	})
	t.Cleanup(n.end)
	var said struct{ WS string }
	if err := json.Unmarshal([]byte(line), &said); err != nil {
		t.Fatalf("the node says %q\n%s", line, n.log.lines(""))
	}
	n.ws = said.WS
	return n
}

// dial makes a handshake for a host.
func (n *node) dial(host string, a *authority) (*tls.Conn, error) {
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: patience}, Config: &tls.Config{ServerName: host, RootCAs: a.roots()}}
	if host == "" {
		d.Config.InsecureSkipVerify = true
	}
	c, err := d.DialContext(context.Background(), "tcp", fmt.Sprintf("127.0.0.1:%d", n.port))
	if err != nil {
		return nil, err
	}
	return c.(*tls.Conn), nil
}

// shown is the certificate that the node shows, good or not; "" is none.
func (n *node) serial() string {
	n.t.Helper()
	c, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", n.port), &tls.Config{ServerName: "node.test", InsecureSkipVerify: true})
	if err != nil {
		return ""
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

// await waits for something.
func (n *node) await(what string, ok func() bool) {
	n.t.Helper()
	for end := time.Now().Add(3 * patience); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			n.t.Fatalf("not so: %s\n%s", what, n.log.lines(""))
		}
	}
}

// stats is the part of /stats.json that is about TLS.
type stats struct {
	TLS struct {
		Names    []string
		NotAfter time.Time `json:"not_after"`
		Fault    string
	}
}

func (n *node) stats() (s stats) {
	n.t.Helper()
	if err := json.Unmarshal([]byte(n.get("/stats.json")), &s); err != nil {
		n.t.Fatal(err)
	}
	return s
}

// get asks for a page, whatever the certificate is worth.
func (n *node) get(path string) string {
	n.t.Helper()
	client := http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{ServerName: "node.test", InsecureSkipVerify: true},
	}}
	r, err := client.Get(fmt.Sprintf("https://127.0.0.1:%d%s", n.port, path))
	if err != nil {
		n.t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	return string(b)
}
