package testnet

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/pion/webrtc/v4"
)

// iceList is what a node answers to GET /v1/ice with a query.
func iceList(t *testing.T, n *Net, i int, query url.Values) (list []webrtc.ICEServer, status int) {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, n.HTTP(i)+"/v1/ice?"+query.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	if answer.StatusCode == http.StatusOK {
		if err := json.Unmarshal(b, &list); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
	}
	return list, answer.StatusCode
}

// announced is a client of node i at the tracker's door, and what its page knows.
func announced(t *testing.T, n *Net, i int, peer string) url.Values {
	t.Helper()
	const hash = "iceiceiceiceiceicexx"
	ws, _, err := websocket.DefaultDialer.DialContext(t.Context(), n.URL(i), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.Close() })
	if err := ws.WriteJSON(frame{Action: "announce", InfoHash: hash, PeerID: peer, NumWant: 0, Event: "started"}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ws.ReadMessage(); err != nil {
		t.Fatal(err)
	}
	return url.Values{"door": {"tracker"}, "id": {peer}, "token": {hash}}
}

// TestICEList asks two linked nodes for their servers: who has no session is
// given STUN, and who has one TURN too, of the node and of the other.
func TestICEList(t *testing.T) {
	n := StartWith(t, Options{Nodes: 2, TURN: true})
	session := announced(t, n, 0, "peer-of-node-zero-00")
	inHex := url.Values{"door": session["door"], "id": {hex.EncodeToString([]byte(session.Get("id")))}, "token": {hex.EncodeToString([]byte(session.Get("token")))}}
	for _, c := range []struct {
		name   string
		query  url.Values
		status int
		turn   bool
	}{
		{"nobody", nil, 200, false},
		{"an open session", session, 200, true},
		{"the same in hex", inHex, 200, true},
		{"behind a private node's token", url.Values{"door": session["door"], "id": session["id"], "token": append([]string{"x"}, session["token"]...)}, 200, true},
		{"behind too many", url.Values{"door": session["door"], "id": session["id"], "token": append(make([]string, 4), session["token"]...)}, 403, false},
		{"another id", url.Values{"door": session["door"], "id": {"peer-of-node-zero-01"}, "token": session["token"]}, 403, false},
		{"another token", url.Values{"door": session["door"], "id": session["id"], "token": {"iceiceiceiceiceicexy"}}, 403, false},
		{"another door", url.Values{"door": {"rxdb"}, "id": session["id"], "token": session["token"]}, 403, false},
		{"no such door", url.Values{"door": {"nosuch"}, "id": session["id"], "token": session["token"]}, 403, false},
		{"a door that knows nobody", url.Values{"door": {"wsrelay"}, "id": session["id"], "token": session["token"]}, 403, false},
	} {
		list, status := iceList(t, n, 0, c.query)
		if status != c.status {
			t.Errorf("%s: status %d, not %d", c.name, status, c.status)
		}
		if status != http.StatusOK {
			continue
		}
		if kinds(list) != kindsOf(c.turn) {
			t.Errorf("%s: %q, not %q: %v", c.name, kinds(list), kindsOf(c.turn), list)
		}
	}
	if _, status := iceList(t, n, 1, session); status != http.StatusForbidden {
		t.Errorf("the session of node 0 is good for node 1: %d", status)
	}
}

// kinds are the kinds of a list's URLs, in order.
func kinds(list []webrtc.ICEServer) string {
	var all []string
	for _, s := range list {
		for _, u := range s.URLs {
			kind, _, _ := strings.Cut(u, ":")
			all = append(all, kind)
		}
	}
	return strings.Join(all, " ")
}

func kindsOf(turn bool) string {
	if turn {
		return "stun turn turn stun turn turn"
	}
	return "stun stun"
}

// TestTURNOfBothNodes connects two clients of node 0 by nothing but TURN, one over
// the node itself and one over the other node, whose credentials node 0 issues.
func TestTURNOfBothNodes(t *testing.T) {
	n := StartWith(t, Options{Nodes: 2, TURN: true})
	list, _ := iceList(t, n, 0, announced(t, n, 0, "peer-of-node-zero-00"))
	if len(list) != 4 {
		t.Fatalf("not STUN and TURN of both nodes: %v", list)
	}
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) { relayed(t, only(list[1], transport), only(list[3], transport)) })
	}
}

// only is one of the ways to a server.
func only(s webrtc.ICEServer, transport string) webrtc.ICEServer {
	s.URLs = slices.DeleteFunc(slices.Clone(s.URLs), func(u string) bool { return !strings.HasSuffix(u, "transport="+transport) })
	return s
}

// relayed connects two peers that use nothing but their TURN server, and has one
// say something to the other.
func relayed(t *testing.T, one, other webrtc.ICEServer) {
	ctx, cancel := context.WithTimeout(t.Context(), meetWithin)
	defer cancel()
	heard, open := make(chan string, 1), make(chan struct{})
	a, b := relayOnly(t, one), relayOnly(t, other)
	channel, err := a.CreateDataChannel("x", nil)
	if err != nil {
		t.Fatal(err)
	}
	channel.OnOpen(func() { close(open) })
	b.OnDataChannel(func(c *webrtc.DataChannel) {
		c.OnMessage(func(m webrtc.DataChannelMessage) { heard <- string(m.Data) })
	})
	described(t, a, b)
	select {
	case <-open:
	case <-ctx.Done():
		t.Fatalf("not connected: %v and %v", a.ICEConnectionState(), b.ICEConnectionState())
	}
	if err := channel.SendText("over two relays"); err != nil {
		t.Fatal(err)
	}
	select {
	case m := <-heard:
		if m != "over two relays" {
			t.Errorf("heard %q", m)
		}
	case <-ctx.Done():
		t.Fatal("not heard")
	}
}

func relayOnly(t *testing.T, s webrtc.ICEServer) *webrtc.PeerConnection {
	t.Helper()
	var settings webrtc.SettingEngine
	settings.SetIncludeLoopbackCandidate(true)
	settings.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4, webrtc.NetworkTypeTCP4})
	pc, err := webrtc.NewAPI(webrtc.WithSettingEngine(settings)).NewPeerConnection(webrtc.Configuration{
		ICEServers: []webrtc.ICEServer{s}, ICETransportPolicy: webrtc.ICETransportPolicyRelay,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	return pc
}

// described exchanges descriptions with all candidates.
func described(t *testing.T, a, b *webrtc.PeerConnection) {
	t.Helper()
	offer, err := a.CreateOffer(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.SetRemoteDescription(gathered(t, a, offer)); err != nil {
		t.Fatal(err)
	}
	answer, err := b.CreateAnswer(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.SetRemoteDescription(gathered(t, b, answer)); err != nil {
		t.Fatal(err)
	}
}

func gathered(t *testing.T, pc *webrtc.PeerConnection, d webrtc.SessionDescription) webrtc.SessionDescription {
	t.Helper()
	done := webrtc.GatheringCompletePromise(pc)
	if err := pc.SetLocalDescription(d); err != nil {
		t.Fatal(err)
	}
	select {
	case <-done:
	case <-time.After(meetWithin):
		t.Fatal("candidates are still being gathered")
	}
	if !strings.Contains(pc.LocalDescription().SDP, "typ relay") {
		t.Fatalf("no relayed candidate; is the server there?\n%s", pc.LocalDescription().SDP)
	}
	return *pc.LocalDescription()
}

// TestEachDoorVouches opens a session at each door that knows its clients, and asks
// for TURN with what the client's page has.
func TestEachDoorVouches(t *testing.T) {
	n := StartWith(t, Options{TURN: true})
	for _, c := range []struct {
		door, path string
		say        []string
		id         func(first []byte) string // from the first message of the node
		token      string
		key        string
	}{
		{door: "peerjs", path: "/peerjs?key=peerjs&id=alice&token=secret-of-alice", id: constant("alice"), token: "secret-of-alice"},
		{door: "peerjs", path: "/peerjs?key=mine&id=alice&token=another-secret", id: constant("alice"), token: "another-secret", key: "mine"},
		{
			door: "ywebrtc", path: "/y-webrtc", id: constant("0f8d"), token: "notes",
			say: []string{`{"type":"subscribe","topics":["notes"]}`, `{"type":"publish","topic":"notes","data":{"type":"announce","from":"0f8d"}}`, `{"type":"ping"}`},
		},
		{door: "rxdb", path: "/rxdb", say: []string{"", `{"type":"join","room":"heroes"}`}, id: field("yourPeerId"), token: "heroes"},
		{door: "matchbox", path: "/matchbox/arena", id: field("IdAssigned"), token: "arena"},
	} {
		t.Run(c.door+c.key, func(t *testing.T) {
			ws, _, err := websocket.DefaultDialer.DialContext(t.Context(), n.URL(0)+c.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer ws.Close()
			var first []byte
			say := append(c.say, "")
			for _, m := range say {
				if m != "" {
					if err := ws.WriteMessage(websocket.TextMessage, []byte(m)); err != nil {
						t.Fatal(err)
					}
					continue
				}
				_, b, err := ws.ReadMessage()
				if err != nil {
					t.Fatal(err)
				}
				if first == nil {
					first = b
				}
			}
			query := url.Values{"door": {c.door}, "id": {c.id(first)}, "token": {c.token}}
			if c.key != "" {
				query.Set("key", c.key)
			}
			list, status := iceList(t, n, 0, query)
			if status != http.StatusOK || kinds(list) != "stun turn turn" {
				t.Errorf("%d %v", status, list)
			}
			query.Set("token", c.token+"x")
			if _, status := iceList(t, n, 0, query); status != http.StatusForbidden {
				t.Errorf("with another token: %d", status)
			}
		})
	}
}

func constant(s string) func([]byte) string { return func([]byte) string { return s } }

// field is a member of a JSON object.
func field(name string) func([]byte) string {
	return func(b []byte) string {
		var v map[string]any
		_ = json.Unmarshal(b, &v)
		s, _ := v[name].(string)
		return s
	}
}
