package node_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/peerservers/peerserver/node"
	"github.com/peerservers/peerserver/node/ice"
	"github.com/peerservers/peerserver/protocol"
)

// fetch asks a node's admin address; header is of pairs.
func fetch(t *testing.T, n *node.Node, path string, header ...string) (*http.Response, string) {
	t.Helper()
	return request(t, http.MethodGet, "http://"+n.Admin().String()+path, headerOf(header))
}

// list is what the admin pages list.
type list struct {
	Total int `json:"total"`
	Apps  []struct {
		App                                string
		Members, Seeders, Elsewhere, Nodes int
	} `json:"apps"`
	Links []struct {
		Node string
		URLs []string
		Up   bool
		Apps int
	} `json:"links"`
	Members int                           `json:"members"`
	Doors   map[string]map[string]float64 `json:"doors"`
}

func lists(t *testing.T, n *node.Node, path string) (l list) {
	t.Helper()
	answer, body := fetch(t, n, path)
	if answer.StatusCode != http.StatusOK || answer.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("%s: %d %v %s", path, answer.StatusCode, answer.Header, body)
	}
	if err := json.Unmarshal([]byte(body), &l); err != nil {
		t.Fatalf("%s: %v: %s", path, err, body)
	}
	return l
}

func TestAdminLists(t *testing.T) {
	other := startNode(t, node.Config{})
	n := startNode(t, node.Config{Admin: "127.0.0.1:0", Peers: []string{"http://" + other.Addr().String()}})
	eventually(t, func() bool { return n.Known() == 1 }, "the nodes do not meet")
	if l := lists(t, n, "/apps.json"); l.Total != 0 || l.Apps == nil || len(l.Apps) != 0 {
		t.Errorf("apps of a new node: %+v", l)
	}
	a, b, c := dial(t, n, "/"), dial(t, n, "/"), dial(t, other, "/")
	a.send(announce(hash("one"), peer("a"), `"left":0`))
	a.send(announce(hash("two"), peer("a")))
	b.send(announce(hash("one"), peer("b")))
	c.send(announce(hash("one"), peer("c")))
	eventually(t, func() bool {
		l := lists(t, n, "/apps.json")
		return len(l.Apps) == 2 && l.Apps[0].Elsewhere == 1
	}, "the other node's member is not listed")
	l := lists(t, n, "/apps.json")
	one, two := l.Apps[0], l.Apps[1]
	if l.Total != 2 || one.App != protocol.App("tracker", []byte(hash("one")), nil).String() || one.Members != 2 || one.Seeders != 1 || one.Nodes != 1 || two.Members != 1 || two.Elsewhere != 0 {
		t.Errorf("apps %+v", l)
	}
	if l := lists(t, n, "/apps.json?limit=1"); l.Total != 2 || len(l.Apps) != 1 || l.Apps[0] != one {
		t.Errorf("with a limit: %+v", l)
	}
	l = lists(t, n, "/links.json")
	if len(l.Links) != 1 || l.Links[0].Node != other.ID().String() || !l.Links[0].Up || l.Links[0].Apps != 1 || !slices.Equal(l.Links[0].URLs, []string{"ws://" + other.Addr().String()}) {
		t.Errorf("links %+v", l.Links)
	}
	if l = lists(t, n, "/peers.json"); l.Members != 3 || l.Doors["tracker"]["leechers"] != 2 || l.Doors["tracker"]["seeders"] != 1 {
		t.Errorf("peers %+v", l)
	}
	if answer, _ := fetch(t, n, "/apps.json?limit=many"); answer.StatusCode != http.StatusBadRequest {
		t.Errorf("a limit that is no number: %d", answer.StatusCode)
	}
}

func TestAdminPages(t *testing.T) {
	n := startNode(t, node.Config{Admin: "127.0.0.1:0"})
	for path, has := range map[string]string{
		"/": "/metrics", "/health": `"ok"`, "/stats.json": `"torrents":0`, "/debug/pprof/": "goroutine",
		"/debug/pprof/heap?debug=1": "heap profile", "/debug/pprof/cmdline": "test",
	} {
		if answer, body := fetch(t, n, path); answer.StatusCode != http.StatusOK || !strings.Contains(body, has) {
			t.Errorf("%s: %d %.300s", path, answer.StatusCode, body)
		}
	}
	for _, public := range []string{"/apps.json", "/links.json", "/peers.json", "/metrics", "/debug/pprof/"} {
		answer, err := http.Get("http://" + n.Addr().String() + public)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusNotFound {
			t.Errorf("%s on the public port: %d", public, answer.StatusCode)
		}
	}
	if startNode(t, node.Config{}).Admin() != nil {
		t.Error("there are admin pages that nobody asked for")
	}
}

// A web page that the operator looks at can make its browser send requests to
// loopback.
func TestAdminIsNotForWebPages(t *testing.T) {
	n := startNode(t, node.Config{Admin: "127.0.0.1:0"})
	port := n.Admin().String()[strings.LastIndex(n.Admin().String(), ":"):]
	for _, c := range []struct {
		header []string
		status int
	}{
		{nil, http.StatusOK},
		{[]string{"Host", "localhost" + port}, http.StatusOK},
		{[]string{"Host", "[::1]" + port}, http.StatusOK},
		{[]string{"Sec-Fetch-Site", "none"}, http.StatusOK},
		{[]string{"Sec-Fetch-Site", "same-origin"}, http.StatusOK},
		{[]string{"Sec-Fetch-Site", "cross-site"}, http.StatusForbidden},
		{[]string{"Sec-Fetch-Site", "same-site"}, http.StatusForbidden},
		{[]string{"Host", "rebound.example" + port}, http.StatusForbidden},
		{[]string{"Host", "localhost.example"}, http.StatusForbidden},
	} {
		for _, path := range []string{"/apps.json", "/debug/pprof/", "/metrics"} {
			answer, _ := fetch(t, n, path, c.header...)
			if answer.StatusCode != c.status {
				t.Errorf("%s %v: %d, want %d", path, c.header, answer.StatusCode, c.status)
			}
			if open := answer.Header.Get("Access-Control-Allow-Origin"); open != "" {
				t.Errorf("%s is open to %q", path, open)
			}
		}
	}
}

// Elsewhere than on loopback the operator decides who reaches it, and by which
// name.
func TestAdminElsewhere(t *testing.T) {
	for address, warns := range map[string]bool{"0.0.0.0:0": true, "127.0.0.1:0": false} {
		var log bytes.Buffer
		n, err := node.New(node.Config{Listen: "127.0.0.1:0", NoDHT: true, Admin: address, Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(log.String(), "admin address is not on loopback"); got != warns {
			t.Errorf("%s: warned %v, want %v: %s", address, got, warns, log.String())
		}
		serve(t, n)
		want := http.StatusForbidden
		if warns {
			want = http.StatusOK
		}
		if answer, _ := fetch(t, n, "/apps.json", "Host", "metrics.example:1"); answer.StatusCode != want {
			t.Errorf("%s by a name: %d, want %d", address, answer.StatusCode, want)
		}
	}
}

var sample = regexp.MustCompile(`^([a-z_]+)(?:\{(.*)\})? (\S+)$`)

func TestMetrics(t *testing.T) {
	n := startNode(t, node.Config{Admin: "127.0.0.1:0", Version: "v1"})
	a, b := dial(t, n, "/"), dial(t, n, "/")
	a.send(announce(hash("private"), peer("alice"), offers(offer("o", "sdp"))))
	a.next()
	b.send(announce(hash("private"), peer("bob"), `"left":0`))
	b.next()
	b.next()
	b.send("garbage")
	b.next()
	_, body := fetch(t, n, "/metrics")
	got, doors, reasons := map[string]float64{}, map[string]bool{}, 0
	lines := bufio.NewScanner(strings.NewReader(body))
	for lines.Scan() {
		m := sample.FindStringSubmatch(lines.Text())
		if m == nil || !strings.HasPrefix(m[1], "peerserver_") {
			continue
		}
		// What labels there are is listed here: none may name an app, a peer or
		// an address.
		name, ofDoor := strings.CutPrefix(m[2], `door="`)
		name = strings.TrimSuffix(name, `"`)
		switch {
		case m[2] == "", m[2] == `version="v1"`:
		case m[1] == "peerserver_ice_refused_total" && slices.Contains(ice.Reasons(), strings.TrimSuffix(strings.TrimPrefix(m[2], `reason="`), `"`)):
			reasons++
			continue
		case ofDoor && slices.Contains(node.Doors(), name):
			if doors[name] = true; name != "tracker" {
				continue
			}
		default:
			t.Errorf("label %s", m[2])
		}
		v, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			t.Error(err)
		}
		got[m[1]] = v
	}
	for _, name := range node.Doors() {
		if !doors[name] {
			t.Errorf("no number of the door %s", name)
		}
	}
	for name, want := range map[string]float64{
		"peerserver_info": 1, "peerserver_clients": 2, "peerserver_clients_opened_total": 2, "peerserver_members": 2, "peerserver_clients_denied_total": 0,
		"peerserver_apps": 1, "peerserver_offers_total": 1, "peerserver_offers_held_total": 1, "peerserver_links": 0,
		"peerserver_ice_allocations": 0, "peerserver_ice_bindings_total": 0, "peerserver_ice_day_bytes": 0,
		"peerserver_draining": 0, "peerserver_door_messages": 3, "peerserver_door_failures": 1, "peerserver_door_seeders": 1,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s is %v (%v), want %v", name, v, ok, want)
		}
	}
	if reasons != len(ice.Reasons()) {
		t.Errorf("%d reasons of STUN and TURN to refuse something, want %d", reasons, len(ice.Reasons()))
	}
	for _, without := range []string{"peerserver_dht_nodes", "peerserver_reach_tcp", "peerserver_tls_fault"} {
		if _, ok := got[without]; ok {
			t.Errorf("%s, of what the node is without", without)
		}
	}
	if _, body := fetch(t, startPublicNode(t, node.Config{Admin: "127.0.0.1:0", Listen: ":0", STUN: "none"}), "/metrics"); !strings.Contains(body, "\npeerserver_reach_tcp -1\n") || !strings.Contains(body, "\npeerserver_reach_portmap -1\n") || strings.Contains(body, "peerserver_ice") {
		t.Error("a node with an outside and without STUN does not show that")
	}
	if _, body := fetch(t, startNode(t, node.Config{Admin: "127.0.0.1:0", Bootstrap: []string{}}), "/metrics"); !strings.Contains(body, "\npeerserver_dht_nodes 0\n") {
		t.Error("a node in the DHT does not show its part")
	}
	if !strings.Contains(body, "go_goroutines ") || !strings.Contains(body, "process_open_fds ") {
		t.Error("the numbers of the program are missing")
	}
	for _, secret := range []string{"private", "alice", hash("private"), protocol.App("tracker", []byte(hash("private")), nil).String()} {
		if strings.Contains(body, secret) {
			t.Errorf("metrics show %q", secret)
		}
	}
}
