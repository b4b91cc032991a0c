package testnet

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/pion/turn/v5"
	"github.com/pion/webrtc/v4"

	"github.com/peerservers/peerserver/node"
)

// TestTURNOverTLS allocates over TLS at a node with a certificate: at a port of its
// own, and at the node's, where HTTP is too.
func TestTURNOverTLS(t *testing.T) {
	cert, key, roots := selfMade(t, "node.example.org")
	nd, err := node.New(node.Config{
		Listen: "127.0.0.1:0", NoDHT: true, URLs: []string{"wss://node.example.org"}, TLSCert: cert, TLSKey: key, AllowPrivate: true,
		STUN: "127.0.0.1:0", TURN: true, TURNTLS: "127.0.0.1:0", TURNAllowPrivate: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- nd.Serve(ctx) }()
	defer func() {
		end()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	_, port, _ := net.SplitHostPort(nd.Addr().String())
	dialer := &websocket.Dialer{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "node.example.org", MinVersion: tls.VersionTLS12}}
	ws, _, err := dialer.DialContext(ctx, "wss://127.0.0.1:"+port+"/rxdb", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	_, first, err := ws.ReadMessage()
	if err != nil {
		t.Fatal(err)
	}
	if err := ws.WriteMessage(websocket.TextMessage, []byte(`{"type":"join","room":"heroes"}`)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ws.ReadMessage(); err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: dialer.TLSClientConfig, DisableKeepAlives: true}}
	q, err := http.NewRequestWithContext(ctx, http.MethodGet,
		"https://127.0.0.1:"+port+"/v1/ice?door=rxdb&token=heroes&id="+field("yourPeerId")(first), nil)
	if err != nil {
		t.Fatal(err)
	}
	q.Host = "node.example.org"
	answer, err := client.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var list []webrtc.ICEServer
	if err := json.NewDecoder(answer.Body).Decode(&list); err != nil {
		t.Fatal(err)
	}
	if kinds(list) != "stun turn turn turns turns" {
		t.Fatalf("%q: %v", kinds(list), list)
	}
	for _, u := range list[1].URLs[2:] {
		at, ok := strings.CutPrefix(u, "turns:node.example.org:")
		if at, _, _ = strings.Cut(at, "?"); !ok {
			t.Fatalf("%q is not at the host that was asked for", u)
		}
		conn, err := (&tls.Dialer{Config: dialer.TLSClientConfig}).DialContext(ctx, "tcp", "127.0.0.1:"+at)
		if err != nil {
			t.Fatalf("%s: %v", u, err)
		}
		allocate(t, conn, list[1])
	}
}

// allocate makes an allocation over a connection.
func allocate(t *testing.T, conn net.Conn, s webrtc.ICEServer) {
	t.Helper()
	defer conn.Close()
	password, _ := s.Credential.(string)
	client, err := turn.NewClient(&turn.ClientConfig{
		TURNServerAddr: conn.RemoteAddr().String(), Conn: turn.NewSTUNConn(conn), Username: s.Username, Password: password,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.Listen(); err != nil {
		t.Fatal(err)
	}
	relayed, err := client.Allocate()
	if err != nil {
		t.Fatalf("at %v: %v", conn.RemoteAddr(), err)
	}
	relayed.Close()
}

// selfMade is a certificate in two files, and the roots that it is good for.
func selfMade(t *testing.T, host string) (cert, key string, roots *x509.CertPool) {
	t.Helper()
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	made := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{host}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, made, made, secret.Public(), secret)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	roots = x509.NewCertPool()
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots.AddCert(parsed)
	write := func(name, kind string, b []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", raw), roots
}
