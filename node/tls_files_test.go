package node_test

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/peerservers/peerserver/node"
	"github.com/peerservers/peerserver/testnet/certs"
)

// A certificate is read again when it changes, however it is replaced; until the
// pair fits the old one is shown, and who is connected notices nothing.
func TestReload(t *testing.T) {
	t.Parallel()
	ca, dir := certs.New(t), t.TempDir()
	// As Kubernetes has it: a link to a folder, and links through that.
	folder := func(name string, serial int64) {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		ca.FilesIn(t, filepath.Join(dir, name), certs.Leaf{Names: []string{"node.test"}, Serial: serial})
	}
	swap := func(name string) {
		next := filepath.Join(dir, "next")
		if err := os.Symlink(name, next); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, filepath.Join(dir, "now")); err != nil {
			t.Fatal(err)
		}
	}
	folder("one", 101)
	folder("two", 102)
	swap("one")
	var log logged
	n := startPublicNode(t, node.Config{TLSCert: filepath.Join(dir, "now", "cert.pem"), TLSKey: filepath.Join(dir, "now", "key.pem"), Log: log.logger()})
	serial := func() int64 {
		_, seen, err := tlsPage(t, n, ca.Client("node.test"), "/health")
		if err != nil {
			t.Fatal(err)
		}
		return seen.PeerCertificates[0].SerialNumber.Int64()
	}
	if got := serial(); got != 101 {
		t.Fatalf("it begins with %d", got)
	}
	var sockets []*websocket.Conn
	d := dialerOf(ca, n)
	for range 50 {
		ws, _, err := d.Dial(fmt.Sprintf("wss://node.test:%d/y-webrtc", portOf(n)), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer ws.Close()
		sockets = append(sockets, ws)
	}
	busy, ended := make(chan struct{}), make(chan error, len(sockets))
	for _, ws := range sockets {
		go func() {
			for {
				select {
				case <-busy:
					ended <- nil
					return
				case <-time.After(20 * time.Millisecond):
				}
				if err := ping(ws); err != nil {
					ended <- err
					return
				}
			}
		}()
	}
	swap("two")
	eventually(t, func() bool { return serial() == 102 }, "the second is not taken")

	cert, key := ca.PEM(t, certs.Leaf{Names: []string{"node.test"}, Serial: 103})
	now := filepath.Join(dir, "two")
	write(t, filepath.Join(now, "cert.pem"), cert[:len(cert)/2])
	const trouble = "trouble with the certificate"
	eventually(t, func() bool { return log.count(trouble) == 1 }, "half a certificate is not noticed")
	write(t, filepath.Join(now, "cert.pem"), cert)
	time.Sleep(6 * time.Second) // it looks, and the key does not fit yet
	s := tlsStats(t, n, ca.Client("node.test"))
	if got := serial(); got != 102 || log.count(trouble) != 1 || s.Fault != "the files of the certificate cannot be used" {
		t.Errorf("half a pair: shows %d, complains %d times, %+v\n%s", got, log.count(trouble), s, &log.b)
	}
	write(t, filepath.Join(now, "key.pem"), key)
	eventually(t, func() bool { return serial() == 103 }, "the third is not taken")
	eventually(t, func() bool { return log.count("good again") == 1 }, "it does not say that it is good again")

	// Gone, and back as they were.
	if err := os.Remove(filepath.Join(dir, "now")); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return log.count(trouble) == 2 }, "files that are gone are not noticed")
	swap("two")
	eventually(t, func() bool { return log.count("good again") == 2 }, "files that are back are not noticed")
	if s := tlsStats(t, n, ca.Client("node.test")); s.Fault != "" || serial() != 103 {
		t.Errorf("in the end: %+v", s)
	}
	close(busy)
	for range sockets {
		if err := <-ended; err != nil {
			t.Errorf("who was connected: %v", err)
		}
	}
}

// A certificate that has ended is shown all the same, since clients say of it what
// it is; statistics and log name it.
func TestExpired(t *testing.T) {
	ca := certs.New(t)
	for end, fault := range map[time.Duration]string{
		-time.Hour: "the certificate has expired", time.Hour: "the certificate expires soon", 20 * 24 * time.Hour: "",
	} {
		at := time.Now().Add(end).Truncate(time.Second).UTC()
		cert, key := ca.Files(t, certs.Leaf{Names: []string{"node.test"}, From: at.Add(-30 * 24 * time.Hour), Until: at})
		var log logged
		n := startNode(t, node.Config{TLSCert: cert, TLSKey: key, Log: log.logger()})
		_, _, err := tlsPage(t, n, ca.Client("node.test"), "/health")
		if refused := err != nil && strings.Contains(err.Error(), "expired"); refused != (end < 0) {
			t.Errorf("%v: a client says %v", end, err)
		}
		s := tlsStats(t, n, &tls.Config{InsecureSkipVerify: true})
		if s.Fault != fault || !s.NotAfter.Equal(at) || fmt.Sprint(s.Names) != "[node.test]" {
			t.Errorf("%v: %+v", end, s)
		}
		if fault != "" {
			eventually(t, func() bool { return log.count(fault) == 1 }, "%v: it logs nothing", end)
		}
	}
}

// What is wrong with the settings of TLS is said at the start, and what to do.
func TestTLSSettings(t *testing.T) {
	ca, dir := certs.New(t), t.TempDir()
	cert, key := ca.FilesIn(t, dir, certs.Leaf{})
	_, other := ca.PEM(t, certs.Leaf{})
	write(t, filepath.Join(dir, "other.pem"), other)
	for _, c := range []struct {
		cfg  node.Config
		want string
	}{
		{node.Config{TLSCert: cert}, "go together"},
		{node.Config{TLSKey: key}, "go together"},
		{node.Config{TLSCert: cert, TLSKey: filepath.Join(dir, "other.pem")}, "private key does not match"},
		{node.Config{TLSCert: key, TLSKey: cert}, "the first has to hold the certificate"},
		{node.Config{TLSCert: cert, TLSKey: filepath.Join(dir, "none.pem")}, "is not there; name the file"},
		{node.Config{TLSCert: dir, TLSKey: key}, "is not a certificate or key"},
		{node.Config{TLSCert: cert, TLSKey: key, TLSDomains: []string{"node.test"}}, "leave it out"},
		{node.Config{TLSCert: cert, TLSKey: key, LAN: true}, "run a second node"},
		{node.Config{TLSCert: cert, TLSKey: key, ACMEHTTP: ":80"}, "are for --tls-domain"},
		{node.Config{TLSDomains: []string{"node.test"}}, "needs a data folder"},
		{node.Config{TLSDomains: []string{"127.0.0.1"}}, "single host names"},
		{node.Config{TLSDomains: []string{"*.node.test"}}, "single host names"},
		{node.Config{TLSDomains: []string{"localhost"}}, "is not a host name"},
		{node.Config{TLSDomains: []string{"https://node.test"}}, "leave out scheme"},
		{node.Config{TLSDomains: []string{"node.test:443"}}, "leave out scheme"},
		{node.Config{TLSDomains: []string{"bücher.test"}}, "xn--bcher-kva.test"},
		{node.Config{TLSDomains: make([]string, 100)}, "are over"},
		{node.Config{TLSDomains: []string{"node.test"}, ACMEDirectory: "http://ca.test/"}, "--acme-directory"},
		{node.Config{TLSDomains: []string{"node.test"}, ACMEEmail: "me"}, "--acme-email"},
		{node.Config{TLSDomains: []string{"node.test"}, Data: t.TempDir(), ACMEHTTP: "nowhere:1:2"}, "--acme-http"},
	} {
		c.cfg.NoDHT, c.cfg.Listen, c.cfg.STUN = true, "127.0.0.1:0", "none"
		n, err := node.New(c.cfg)
		if err == nil {
			n.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.cfg.TLSDomains, err, c.want)
		}
	}
}
