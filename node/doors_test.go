package node_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/peerservers/peerserver/node"
	"github.com/peerservers/peerserver/protocol"
)

// At / the first message decides, among the doors whose clients speak first.
func TestFirstMessageDecides(t *testing.T) {
	n := startNode(t, node.Config{})
	for _, c := range []struct{ what, says, hears string }{
		{"tracker", announce(hash("a"), peer("p")), `"interval":`},
		{"tracker, a scrape", `{"action":"scrape"}`, `"action":"scrape"`},
		{"tracker, a bad action", `{"action":"x","topics":["a"],"type":"subscribe"}`, `"failure reason":"invalid action`},
		{"y-webrtc", `{"type":"subscribe","topics":["a"]}` + "\n" + `{"type":"publish","topic":"a","x":{"action":"announce"}}`, `"clients":1`},
		{"y-webrtc, a ping", `{"type":"ping"}`, `{"type":"pong"}`},
		{"ws-relay", `{"type":"subscribe","topic":"a"}` + "\n" + `{"type":"publish","topic":"a","payload":"{\"action\":\"announce\"}"}`, `{"topic":"a","payload":`},
		{"no JSON", `garbage`, `"failure reason":"invalid JSON"`},
		{"nothing", ``, `"failure reason":"invalid JSON"`},
		{"a list", `[]`, `"failure reason"`},
		{"too much", strings.Repeat(`{"type":"subscribe"`, 10_000), `"failure reason":"message too large"`},
	} {
		t.Run(c.what, func(t *testing.T) {
			v, _ := visit{}.come(t, n, "/", "")
			v.say(c.says)
			if heard, closed := v.hears(c.hears); closed != nil {
				t.Errorf("%s closed after %q", closed, heard)
			}
		})
	}
}

// A door that is off is not there: not its paths, its numbers, its part of /.
func TestWithout(t *testing.T) {
	for _, v := range visits() {
		t.Run(v.door, func(t *testing.T) {
			n := startNode(t, node.Config{Without: []string{v.door}, Admin: "127.0.0.1:0"})
			c, answer := v.come(t, n, v.path("my-app"), "")
			if c != nil || answer.StatusCode != http.StatusNotFound {
				t.Errorf("its path is served: %v", answer)
			}
			s := statsOf(t, n)
			_, metrics := fetch(t, n, "/metrics")
			for _, name := range node.Doors() {
				on := name != v.door
				if (s.Doors[name] != nil) != on || strings.Contains(metrics, `{door="`+name+`"}`) != on {
					t.Errorf("door %s: %v", name, s.Doors)
				}
			}
			for _, other := range visits() {
				if other.door != v.door {
					other.letsIn(t, n, other.path("my-app"), "", "my-app")
				}
			}
		})
	}
}

// doorStats is the part of /stats.json that doors have.
type doorStats struct{ Doors map[string]map[string]any }

func statsOf(t *testing.T, n *node.Node) (s doorStats) {
	t.Helper()
	_, body := get(t, n, "/stats.json")
	if err := json.Unmarshal([]byte(body), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// Where the tracker is off, the next door at / answers who is nobody's; where
// all are that are there, clients are told.
func TestRootWithoutTracker(t *testing.T) {
	n := startNode(t, node.Config{Without: []string{"tracker"}})
	for says, hears := range map[string]string{
		`{"type":"subscribe","topics":["a"]}` + "\n" + `{"type":"publish","topic":"a","x":1}`:      `"clients":1`,
		`{"type":"subscribe","topic":"a"}` + "\n" + `{"type":"publish","topic":"a","payload":"x"}`: `"payload":"x"`,
		`{"type":"ping"}`: `{"type":"pong"}`,
	} {
		v, _ := visit{}.come(t, n, "/", "")
		v.say(says)
		if heard, closed := v.hears(hears); closed != nil {
			t.Errorf("%s: closed with %v after %q", says, closed, heard)
		}
	}
	v, _ := visit{}.come(t, n, "/", "")
	v.say(announce(hash("a"), peer("p")) + "\n" + `{"type":"ping"}`)
	if heard, closed := v.hears(`{"type":"pong"}`); closed != nil || strings.Contains(heard, "interval") {
		t.Errorf("an announce: closed with %v after %q", closed, heard)
	}
	n = startNode(t, node.Config{Without: []string{"tracker", "ywebrtc", "wsrelay"}})
	v, _ = visit{}.come(t, n, "/", "")
	if heard, closed := v.hears(""); closed.Code != protocol.CloseDenied || !strings.Contains(closed.Text, "no door of this node is at /") {
		t.Errorf("closed with %v after %q", closed, heard)
	}
	n = startNode(t, node.Config{Without: node.Doors()})
	if answer, body := get(t, n, "/stats.json"); answer.StatusCode != http.StatusOK || !strings.Contains(body, `"doors":{}`) {
		t.Errorf("a node without doors: %d %s", answer.StatusCode, body)
	}
}

// Each door has places of its own: who finds none is told so in the words of
// the library, as far as it has any, and other doors are not affected.
func TestClientsOfADoor(t *testing.T) {
	full := map[string]string{
		"tracker": "as many clients as its operator lets in", "peer": "REFUSED full", "peerjs": "Server has reached its concurrent user limit",
	}
	clients := map[string]int{}
	for _, name := range node.Doors() {
		clients[name] = 1
	}
	n := startNode(t, node.Config{Clients: clients})
	each(t, func(t *testing.T, v visit) {
		first, answer := v.come(t, n, v.path("my-app"), "")
		if first == nil {
			t.Fatalf("status %d", answer.StatusCode)
		}
		v.speak(t, first, "my-app")
		if heard, closed := first.hears(v.in); closed != nil {
			t.Fatalf("closed with %v after %q", closed, heard)
		}
		if second, answer := v.come(t, n, strings.ReplaceAll(v.path("my-app"), "alice", "bob"), ""); second == nil {
			if answer.StatusCode != http.StatusServiceUnavailable {
				t.Errorf("status %d", answer.StatusCode)
			}
		} else if heard, closed := second.hears(""); closed == nil || !strings.Contains(heard, full[v.door]) || strings.Contains(heard, v.in) {
			t.Errorf("closed with %v after %q, want %q", closed, heard, full[v.door])
		}
		if door := statsOf(t, n).Doors[v.door]; door["full"] != 1.0 {
			t.Errorf("it counts %v", door)
		}
		first.ws.Close()
		eventually(t, func() bool { // when the node has seen that
			third, _ := v.come(t, n, strings.ReplaceAll(v.path("my-app"), "alice", "carol"), "")
			if third == nil {
				return false
			}
			defer third.ws.Close()
			return third.isIn(v, "my-app")
		}, "its place is not given back")
	})
}

// isIn says whether a client gets in.
func (v *visitor) isIn(as visit, app string) bool {
	if as.door == "peer" { // whose first message may be a refusal
		kind, b, err := v.ws.ReadMessage()
		return err == nil && kind == websocket.BinaryMessage && v.spell(b) == "OTHER"
	}
	as.speak(v.t, v, app)
	_, closed := v.hears(as.in)
	return closed == nil
}

// At / a browser gets the page, and others what a PeerJS server has there.
func TestRootOfPeerJS(t *testing.T) {
	const browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
	n, without := startNode(t, node.Config{}), startNode(t, node.Config{Without: []string{"peerjs"}})
	for _, c := range []struct {
		n      *node.Node
		accept string
		json   bool
	}{
		{n, browser, false},
		{n, "text/html", false},
		{n, "", false},
		{n, "*/*", true},
		{n, "application/json", true},
		{n, "application/json, text/plain, */*", true},
		{without, "application/json", false},
		{without, "*/*", false},
		{without, browser, false},
	} {
		header := http.Header{}
		if c.accept != "" {
			header.Set("Accept", c.accept)
		}
		answer, body := ask(t, c.n, http.MethodGet, "/", header)
		var said struct{ Name, Description, Website string }
		isJSON := json.Unmarshal([]byte(body), &said) == nil
		if answer.StatusCode != http.StatusOK || isJSON != c.json || (isJSON && (said.Name != "PeerJS Server" || said.Description == "" || said.Website != "https://peerjs.com/")) {
			t.Errorf("Accept: %s: %d %.100s", c.accept, answer.StatusCode, body)
		}
		if !isJSON && !strings.Contains(body, "<!doctype html>") {
			t.Errorf("Accept: %s: not the page but %.100s", c.accept, body)
		}
		if !slices.Contains(answer.Header.Values("Vary"), "Accept") {
			t.Errorf("Accept: %s: Vary is %v", c.accept, answer.Header.Values("Vary"))
		}
		if kind := answer.Header.Get("Content-Type"); strings.Contains(kind, "json") != c.json {
			t.Errorf("Accept: %s: it is %s", c.accept, kind)
		}
	}
}
