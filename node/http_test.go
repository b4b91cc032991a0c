package node_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/peerservers/peerserver/node"
	"github.com/peerservers/peerserver/protocol"
)

func get(t *testing.T, n *node.Node, path string) (*http.Response, string) {
	t.Helper()
	return ask(t, n, http.MethodGet, path, nil)
}

func ask(t *testing.T, n *node.Node, method, path string, header http.Header) (*http.Response, string) {
	t.Helper()
	return request(t, method, "http://"+n.Addr().String()+path, header)
}

// request follows no redirection; a Host in the header is that of the request.
func request(t *testing.T, method, url string, header http.Header) (*http.Response, string) {
	t.Helper()
	q, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if header != nil {
		q.Header, q.Host = header, header.Get("Host")
	}
	answer, err := http.DefaultTransport.RoundTrip(q)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer, string(b)
}

// headerOf is of names and values in turn.
func headerOf(pairs []string) http.Header {
	header := make(http.Header)
	for i := 0; i < len(pairs); i += 2 {
		header.Set(pairs[i], pairs[i+1])
	}
	return header
}

func TestPages(t *testing.T) {
	n := startNode(t, node.Config{})
	c := dial(t, n, "/")
	c.send(announce(hash("h"), peer("p"), `"left":0`))
	c.next()
	for path, want := range map[string]struct {
		status int
		has    string
	}{
		"/":           {200, "peerserver"},
		"/health":     {200, `{"status":"ok"}`},
		"/stats.json": {200, `"torrents":1,"activeTorrents":1,"peersAll":1,"peersSeederOnly":1,`},
		"/stats":      {200, "<h1>1 torrents (1 active)</h1>"},
		"/nowhere":    {404, ""},
		"/announce":   {404, ""},
		"/link":       {404, ""},
	} {
		answer, body := get(t, n, path)
		if answer.StatusCode != want.status || !strings.Contains(body, want.has) {
			t.Errorf("%s: %d %s, want %d %s", path, answer.StatusCode, body, want.status, want.has)
		}
		if got := answer.Header.Get("Access-Control-Allow-Origin"); got != "*" {
			t.Errorf("%s: open to %q, want every page", path, got)
		}
	}
	// Totals only: nothing that names an app or a peer.
	for _, path := range []string{"/", "/stats", "/stats.json"} {
		if _, body := get(t, n, path); strings.Contains(body, "h....") || strings.Contains(body, "p----") || strings.Contains(body, "127.0.0.1") {
			t.Errorf("%s tells too much: %s", path, body)
		}
	}
}

func TestPreflight(t *testing.T) {
	n := startNode(t, node.Config{})
	answer, _ := ask(t, n, http.MethodOptions, "/stats.json", http.Header{
		"Origin": {"https://example.com"}, "Access-Control-Request-Method": {"GET"}, "Access-Control-Request-Private-Network": {"true"},
	})
	if answer.StatusCode != http.StatusNoContent || answer.Header.Get("Access-Control-Allow-Private-Network") != "true" {
		t.Errorf("%d %v", answer.StatusCode, answer.Header)
	}
}

func TestWellKnownIsASignedRecord(t *testing.T) {
	n := startNode(t, node.Config{})
	_, body := get(t, n, "/.well-known/peerserver")
	var d node.Description
	if err := json.Unmarshal([]byte(body), &d); err != nil {
		t.Fatal(err)
	}
	var signed protocol.SignedRecord
	if err := protojson.Unmarshal(d.Record, &signed); err != nil {
		t.Fatal(err)
	}
	rec, err := signed.Verify(n.ID(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if want := "ws://" + n.Addr().String(); len(rec.URLs) != 1 || rec.URLs[0] != want || d.URLs[0] != want || d.Node != n.ID() {
		t.Errorf("record %v, described as %+v, want %s", rec.URLs, d, want)
	}
}

// A node that listens everywhere does not know where others reach it.
func TestWellKnownWithoutARecord(t *testing.T) {
	n := startNode(t, node.Config{Listen: "0.0.0.0:0"})
	_, body := get(t, n, "/.well-known/peerserver")
	var d node.Description
	if err := json.Unmarshal([]byte(body), &d); err != nil {
		t.Fatal(err)
	}
	if d.Node != n.ID() || d.Record != nil || len(d.URLs) != 0 {
		t.Errorf("%s", body)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for name, cfg := range map[string]node.Config{
		"URL with a path":    {URLs: []string{"wss://node.example/link"}},
		"URL of http":        {URLs: []string{"https://node.example"}},
		"too many URLs":      {URLs: []string{"wss://a.example", "wss://b.example", "wss://c.example", "wss://d.example", "wss://e.example"}},
		"peer without http":  {Peers: []string{"node.example"}},
		"peer with password": {Peers: []string{"https://me:secret@node.example"}},
	} {
		cfg.Listen = "127.0.0.1:0"
		cfg.NoDHT = true
		if n, err := node.New(cfg); err == nil {
			n.Close()
			t.Errorf("%s is accepted", name)
		}
	}
}
