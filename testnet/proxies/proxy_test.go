package proxies

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/peerservers/peerserver/node"
	"github.com/peerservers/peerserver/testnet/certs"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

const operators = "../../docs/operators.md"

// snippet is what the operators' page shows of a proxy.
func snippet(t *testing.T, language string) string {
	t.Helper()
	text, err := os.ReadFile(operators)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)\n```"+language+"\n(.*?)\n```\n").FindAllStringSubmatch(string(text), -1)
	if len(m) != 1 {
		t.Fatalf("%s has %d blocks of %s, want one", operators, len(m), language)
	}
	return m[0][1]
}

// replace puts what a test has in the place of what the page says, which has to
// be there.
func replace(t *testing.T, s string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(s, pairs[i]) {
			t.Fatalf("the snippet has no %q", pairs[i])
		}
		s = strings.ReplaceAll(s, pairs[i], pairs[i+1])
	}
	return s
}

// proxy is one that runs before a node.
type proxy struct {
	t    *testing.T
	node *node.Node
	port int
	tls  *tls.Config // of its clients
	logs logs
	stop func() // ends the node
}

type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// url is where its clients find the node.
func (p *proxy) url() string { return fmt.Sprintf("wss://node.example.org:%d", p.port) }

// kind is a proxy that is known how to run.
type kind struct {
	name string
	run  func(p *proxy, change func(string) string)
}

func kinds() []kind { return []kind{{"caddy", startCaddy}, {"nginx", startNginx}} }

// start runs a node and a proxy before it; change, if not nil, changes the
// snippet.
func (k kind) start(t *testing.T, cfg node.Config, change func(string) string) *proxy {
	t.Helper()
	if change == nil {
		change = func(s string) string { return s }
	}
	p := &proxy{t: t, port: freePort(t)}
	cfg.Listen, cfg.NoDHT, cfg.STUN, cfg.URLs = "127.0.0.1:0", true, "none", []string{p.url()}
	n, err := node.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p.node = n
	ctx, end := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- n.Serve(ctx) }()
	p.stop = sync.OnceFunc(func() {
		end()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(p.stop)
	k.run(p, change)
	p.await()
	return p
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// program is where a program is, also one that only root finds.
func program(t *testing.T, name string) string {
	t.Helper()
	for _, at := range []string{name, "/usr/sbin/" + name} {
		if path, err := exec.LookPath(at); err == nil {
			return path
		}
	}
	t.Skipf("%s is not installed; \"scripts/install.sh system\" does it", name)
	return ""
}

// exec runs the proxy until the test ends.
func (p *proxy) exec(dir string, program string, args ...string) {
	p.t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = &p.logs, &p.logs, dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt) // both end at once then
		stuck := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		defer stuck.Stop()
		_ = cmd.Wait() // by a signal
	})
}

// await waits for the proxy to answer.
func (p *proxy) await() {
	p.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		c, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", p.port), p.tls)
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(end) {
			p.t.Fatalf("the proxy does not answer: %v\n%s", err, p.logs.String())
		}
	}
}

// startCaddy gives Caddy its own CA, ports and folder, before the snippet.
func startCaddy(p *proxy, change func(string) string) {
	dir := p.t.TempDir()
	config := fmt.Sprintf("{\n\tadmin off\n\tlocal_certs\n\tskip_install_trust\n\tauto_https disable_redirects\n\tdefault_bind 127.0.0.1\n\thttps_port %d\n\tstorage file_system %s\n}\n",
		p.port, dir) + replace(p.t, change(snippet(p.t, "caddy")), "127.0.0.1:8787", p.node.Addr().String())
	file := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		p.t.Fatal(err)
	}
	p.tls = &tls.Config{ServerName: "node.example.org", RootCAs: x509.NewCertPool()}
	p.exec(dir, program(p.t, "caddy"), "run", "--adapter", "caddyfile", "--config", file)
	root := filepath.Join(dir, "pki", "authorities", "local", "root.crt")
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if b, err := os.ReadFile(root); err == nil && p.tls.RootCAs.AppendCertsFromPEM(b) {
			return
		}
		if time.Now().After(end) {
			p.t.Fatalf("Caddy makes no CA\n%s", p.logs.String())
		}
	}
}

// startNginx puts the snippet where Debian's nginx.conf includes it.
func startNginx(p *proxy, change func(string) string) {
	dir := p.t.TempDir()
	at := fmt.Sprintf("listen 127.0.0.1:%d ssl http2;", p.port)
	ca := certs.New(p.t)
	cert, key := ca.FilesIn(p.t, dir, certs.Leaf{Names: []string{"node.example.org"}})
	p.tls = ca.Client("node.example.org")
	user := ""
	if os.Getuid() == 0 {
		user = "user root;\n"
	}
	paths := ""
	for _, what := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		paths += what + "_temp_path " + filepath.Join(dir, what) + ";\n"
	}
	config := user + "daemon off;\nerror_log stderr;\npid " + filepath.Join(dir, "pid") + ";\nevents { worker_connections 768; }\nhttp {\n" + paths +
		replace(p.t, change(snippet(p.t, "nginx")), "listen 443 ssl http2;", at, "    listen [::]:443 ssl http2;\n", "",
			"/etc/letsencrypt/live/node.example.org/fullchain.pem", cert, "/etc/letsencrypt/live/node.example.org/privkey.pem", key,
			"127.0.0.1:8787", p.node.Addr().String()) + "\n}\n"
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		p.t.Fatal(err)
	}
	p.exec(dir, program(p.t, "nginx"), "-e", "stderr", "-p", dir, "-c", file)
}
