package node_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"google.golang.org/protobuf/proto"

	"github.com/peerservers/peerserver/node"
	"github.com/peerservers/peerserver/protocol"
)

const token = "a-token-of-tests-0123"

// visit is how the client library of a door comes to an app.
type visit struct {
	door string
	path func(app string) string
	says func(t *testing.T, v *visitor, app string) // once it is connected
	in   string                                     // what it is told when it is in the app
	// What it is told, before the close if there is one, when the token is
	// missing and when the app is not served.
	denied, unlisted string
	greets           bool   // the node greets with what in is, before it knows the app
	listed           string // --app of the app "listed-app"
}

// visits has one for every door.
func visits() []visit {
	at := func(path string) func(string) string { return func(string) string { return path } }
	text := func(format string) func(*testing.T, *visitor, string) {
		return func(_ *testing.T, v *visitor, app string) { v.say(strings.ReplaceAll(format, "APP", app)) }
	}
	return []visit{
		{
			door: "tracker", path: at("/announce"), listed: "tracker:" + hex.EncodeToString([]byte(hash("listed-app"))),
			says: func(_ *testing.T, v *visitor, app string) { v.say(announce(hash(app), peer("p"))) },
			in:   `"interval":`, denied: `"failure reason":"this node is private`, unlisted: `"failure reason":"this node serves only`,
		},
		{
			door: "peer", path: at("/v1"), says: joinNative, listed: "peer:listed-app",
			in: "JOINED", denied: "REFUSED denied", unlisted: "REFUSED denied",
		},
		{
			door: "peerjs", path: func(app string) string { return "/peerjs?key=" + app + "&id=alice&token=0.12345" }, listed: "peerjs:listed-app",
			in: `{"type":"OPEN"}`, denied: `{"msg":"Invalid key provided"}`, unlisted: `{"msg":"Invalid key provided"}`,
		},
		{
			door: "ywebrtc", path: at("/y-webrtc"), listed: "ywebrtc:listed-app",
			says: text(`{"type":"subscribe","topics":["APP"]}` + "\n" + `{"type":"publish","topic":"APP","data":1}`), in: `"data":1`,
		},
		{
			door: "wsrelay", path: at("/ws-relay"), listed: "wsrelay:listed-app",
			says: text(`{"type":"subscribe","topic":"APP"}` + "\n" + `{"type":"publish","topic":"APP","payload":"x"}`), in: `"payload":"x"`,
		},
		{
			door: "rxdb", path: at("/rxdb"), says: text(`{"type":"join","room":"APP"}`), listed: "rxdb:listed-app",
			in: `"type":"joined"`,
		},
		{
			door: "matchbox", path: func(app string) string { return "/matchbox/" + app }, listed: "matchbox:listed-app",
			in: `{"IdAssigned":`, greets: true,
		},
	}
}

// each plays a scene with the clients of each door, at the same time.
func each(t *testing.T, play func(t *testing.T, v visit)) {
	t.Run("door", func(t *testing.T) {
		for _, v := range visits() {
			t.Run(v.door, func(t *testing.T) {
				t.Parallel()
				play(t, v)
			})
		}
	})
}

func (v visit) speak(t *testing.T, c *visitor, app string) {
	if v.says != nil {
		v.says(t, c, app)
	}
}

// visitor is a WebSocket, to a node whose doors speak many languages.
type visitor struct {
	t   *testing.T
	ws  *websocket.Conn
	url string
}

func (v *visitor) say(lines string) {
	for line := range strings.SplitSeq(lines, "\n") {
		if v.ws.WriteMessage(websocket.TextMessage, []byte(line)) != nil {
			return // it is closed, and says why when it is read
		}
	}
}

func (v *visitor) tell(m *protocol.ToNode) {
	b, err := proto.Marshal(m)
	if err != nil {
		v.t.Fatal(err)
	}
	_ = v.ws.WriteMessage(websocket.BinaryMessage, b)
}

// hears reads until it is told something with want in it, or is closed; what it
// was told, and why it was closed.
func (v *visitor) hears(want string) (heard string, closed *websocket.CloseError) {
	v.t.Helper()
	v.ws.SetReadDeadline(time.Now().Add(patience))
	for {
		kind, b, err := v.ws.ReadMessage()
		if errors.As(err, &closed) {
			return heard, closed
		}
		if err != nil {
			v.t.Fatalf("%v, after %q", err, heard)
		}
		if kind == websocket.BinaryMessage {
			b = []byte(v.spell(b))
		}
		if heard += string(b) + "\n"; want != "" && strings.Contains(heard, want) {
			return heard, nil
		}
	}
}

// spell is what the native door has said.
func (v *visitor) spell(b []byte) string {
	m := new(protocol.ToPeer)
	if err := proto.Unmarshal(b, m); err != nil {
		v.t.Fatal(err)
	}
	switch {
	case m.GetRefused() != nil:
		return "REFUSED " + protocol.Code(m.GetRefused().GetCode()).String()
	case m.GetJoined() != nil:
		return "JOINED"
	}
	return "OTHER"
}

// joinNative logs in and joins an app of the native door.
func joinNative(t *testing.T, v *visitor, app string) {
	_, b, err := v.ws.ReadMessage()
	if err != nil {
		t.Fatal(err)
	}
	m := new(protocol.ToPeer)
	if err := proto.Unmarshal(b, m); err != nil || m.GetChallenge() == nil {
		t.Fatalf("no challenge but %v", m)
	}
	_, key, _ := ed25519.GenerateKey(nil)
	login := protocol.SignLogin(key, m.GetChallenge(), make([]byte, protocol.LoginNonce), v.url)
	seal, err := protocol.NewSealKey([32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	p := protocol.PeerPresence{Seal: seal.Public(), Issued: time.Now(), TTL: time.Hour}
	id := protocol.App("peer", []byte(app), nil)
	if err := protocol.SignPresence(key, id, &p); err != nil {
		t.Fatal(err)
	}
	v.tell(&protocol.ToNode{Ref: 1, Body: &protocol.ToNode_Login{Login: login}})
	v.tell(&protocol.ToNode{Ref: 2, Body: &protocol.ToNode_Join{Join: &protocol.Join{App: id[:], Presence: p.Signed}}})
}

// come dials as a door's library does; the answer tells of an upgrade that was
// refused.
func (v visit) come(t *testing.T, n *node.Node, path, origin string) (*visitor, *http.Response) {
	t.Helper()
	header := http.Header{}
	if origin != "" {
		header.Set("Origin", origin)
	}
	d := websocket.Dialer{}
	if v.door == "peer" {
		d.Subprotocols = []string{"peerserver.v1"}
	}
	url := "ws://" + n.Addr().String()
	ws, answer, err := d.Dial(url+path, header)
	if err != nil {
		if answer == nil {
			t.Fatal(err)
		}
		return nil, answer
	}
	t.Cleanup(func() { ws.Close() })
	return &visitor{t, ws, url}, nil
}

// letsIn checks that a client gets into an app.
func (v visit) letsIn(t *testing.T, n *node.Node, path, origin, app string) {
	t.Helper()
	c, answer := v.come(t, n, path, origin)
	if c == nil {
		t.Fatalf("%s: status %d", path, answer.StatusCode)
	}
	v.speak(t, c, app)
	if heard, closed := c.hears(v.in); closed != nil {
		t.Errorf("%s: closed with %v after %q", path, closed, heard)
	}
}

// keepsOut checks that a client is told why it may not come, and closed, which
// takes a moment: what it returns waits for that.
func (v visit) keepsOut(t *testing.T, n *node.Node, path, origin, reason string) (soon func()) {
	t.Helper()
	c, answer := v.come(t, n, path, origin)
	if c == nil {
		t.Fatalf("%s: status %d", path, answer.StatusCode)
	}
	return func() { v.isTold(t, c, path, origin, reason) }
}

func (v visit) isTold(t *testing.T, c *visitor, path, origin, reason string) {
	t.Helper()
	heard, closed := c.hears("")
	if closed == nil || closed.Code != protocol.CloseDenied || !strings.Contains(closed.Text, reason) || strings.Contains(heard, v.in) {
		t.Errorf("%s: closed with %v after %q", path, closed, heard)
	}
	if origin == "" && !strings.Contains(heard, v.denied) {
		t.Errorf("%s: is told %q, want %q", path, heard, v.denied)
	}
}

func withQuery(path, name, value string) string {
	if strings.Contains(path, "?") {
		return path + "&" + name + "=" + value
	}
	return path + "?" + name + "=" + value
}

// Every door of a private node wants a token, and takes it from path and query.
// No token is in the log.
func TestTokenAtEachDoor(t *testing.T) {
	var mu sync.Mutex
	var log bytes.Buffer
	n := startNode(t, node.Config{Tokens: []string{"another-token-of-tests", token}, Log: slog.New(slog.NewTextHandler(&locked{&mu, &log}, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	var soon []func()
	for _, v := range visits() {
		for _, path := range []string{
			v.path("my-app"), withQuery(v.path("my-app"), "token", "a-wrong-token-0123456"), "/t/a-wrong-token-0123456" + v.path("my-app"),
		} {
			soon = append(soon, v.keepsOut(t, n, path, "", "this node is private"))
		}
	}
	for _, wait := range soon {
		wait()
	}
	each(t, func(t *testing.T, v visit) {
		path := v.path("my-app")
		v.letsIn(t, n, "/t/"+token+path, "", "my-app")
		if v.door != "peerjs" { // whose clients have a token of their own there
			v.letsIn(t, n, withQuery(path, "token", token), "https://page.example", "my-app")
		}
	})
	if got := n.Stats().Clients.Denied; got < 3*uint64(len(visits())) {
		t.Errorf("%d denied", got)
	}
	mu.Lock()
	defer mu.Unlock()
	for _, secret := range []string{token, "wrong-token"} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log has %s: %s", secret, log.String())
		}
	}
}

type locked struct {
	mu *sync.Mutex
	b  *bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// PeerJS's clients pass a token in three ways.
func TestTokenOfPeerJS(t *testing.T) {
	n := startNode(t, node.Config{Tokens: []string{token}, PeerJSDiscovery: []string{"peerjs", token}})
	i := slices.IndexFunc(visits(), func(v visit) bool { return v.door == "peerjs" })
	v := visits()[i]
	for _, path := range []string{
		"/t/" + token + "/peerjs?key=peerjs&id=a1&token=0.1",
		"/t/" + token + "/peerjs-server/peerjs?key=mine&id=a1&token=0.1",
		"/peerjs?key=peerjs&id=a2&token=" + token,
		"/peerjs-server/peerjs?key=" + token + "&id=a3&token=0.1",
	} {
		v.letsIn(t, n, path, "", "")
	}
	v.keepsOut(t, n, "/peerjs-server/peerjs?key="+token+"x&id=a3&token=0.1", "", "private")()
	for path, want := range map[string]int{
		"/t/" + token + "/peerjs/id": 200, "/t/" + token + "/peerjs/peers": 200, "/peerjs-server/" + token + "/peers": 200,
		"/peerjs/peers?token=" + token: 200, "/peerjs/peers": 403, "/peerjs-server/" + token + "x/peers": 403, "/peerjs-server/peerjs/peers": 403,
		"/t/wrong-token-0123456/peerjs/peers": 403,
		// An id says nothing, and a client that has its token elsewhere asks for one first.
		"/peerjs/id": 200, "/peerjs-server/" + token + "/id": 200, "/peerjs-server/": 200,
	} {
		if answer, body := get(t, n, path); answer.StatusCode != want || (want == 403 && !strings.Contains(body, "/t/TOKEN")) {
			t.Errorf("%s: %d %s, want %d", path, answer.StatusCode, body, want)
		}
	}
}

// At the root, too, a client of a private node needs a token; what the node says
// of itself does not.
func TestPrivateNode(t *testing.T) {
	n := startNode(t, node.Config{Tokens: []string{token}})
	root := visit{door: "tracker", in: `"interval":`, denied: `"failure reason":"this node is private`, says: func(_ *testing.T, v *visitor, _ string) { v.say(announce(hash("a"), peer("p"))) }}
	root.keepsOut(t, n, "/", "", "this node is private")()
	for _, path := range []string{"/?token=" + token, "/t/" + token, "/t/" + token + "/"} {
		root.letsIn(t, n, path, "", "")
	}
	for path, want := range map[string]int{
		"/": 200, "/health": 200, "/.well-known/peerserver": 200, "/sdk.js": 200, "/sdk-plain.js": 200, "/page/main.js": 200,
		"/stats": 403, "/stats.json": 403, "/nowhere": 403, "/rxdb": 403, "/y-webrtc": 403,
		"/stats.json?token=" + token: 200, "/t/" + token + "/stats.json": 200, "/t/" + token + "/": 200, "/t/" + token + "/page/main.js": 200,
		"/t/" + token + "/nowhere": 404, "/t/" + token + "x/stats.json": 403, "/t/": 200, "/t": 403, "//stats.json": 403,
	} {
		answer, body := get(t, n, path)
		if answer.StatusCode != want || (want == 403 && !strings.Contains(body, "/t/TOKEN")) {
			t.Errorf("%s: %d %.100s, want %d", path, answer.StatusCode, body, want)
		}
		if strings.Contains(answer.Header.Get("Location"), token) {
			t.Errorf("%s: goes to %s", path, answer.Header.Get("Location"))
		}
	}
	// Nodes link without a token: what they share is bounded by the list of apps.
	if _, answer, err := websocket.DefaultDialer.Dial("ws://"+n.Addr().String()+"/link", nil); err == nil || answer.StatusCode != http.StatusBadRequest {
		t.Errorf("what is no node is answered %v", answer)
	}
	// A node that is open to all takes URLs with a token as well.
	root.letsIn(t, startNode(t, node.Config{}), "/t/"+token, "", "")
}

// Every door of a node that is for some pages only keeps out all others, but
// not programs.
func TestOriginAtEachDoor(t *testing.T) {
	n := startNode(t, node.Config{Origins: []string{"https://good.example"}})
	var soon []func()
	for _, v := range visits() {
		soon = append(soon, v.keepsOut(t, n, v.path("my-app"), "https://bad.example", "not for pages of this origin"))
	}
	for _, wait := range soon {
		wait()
	}
	each(t, func(t *testing.T, v visit) {
		path := v.path("my-app")
		v.letsIn(t, n, path, "https://good.example", "my-app")
		v.letsIn(t, n, strings.ReplaceAll(path, "alice", "bob"), "", "my-app")
	})
	for origin, want := range map[string]int{"https://good.example": 200, "https://bad.example": 403, "": 200} {
		if answer, _ := ask(t, n, http.MethodGet, "/stats.json", http.Header{"Origin": {origin}}); answer.StatusCode != want {
			t.Errorf("a page of %q: %d, want %d", origin, answer.StatusCode, want)
		}
	}
}

// A node that serves listed apps only refuses others in the words of each
// library.
func TestAppsAtEachDoor(t *testing.T) {
	var apps []string
	for _, v := range visits() {
		apps = append(apps, v.listed)
	}
	n := startNode(t, node.Config{Apps: apps})
	each(t, func(t *testing.T, v visit) {
		v.letsIn(t, n, v.path("listed-app"), "", "listed-app")
		c, answer := v.come(t, n, v.path("other-app"), "")
		if c == nil {
			t.Fatalf("status %d", answer.StatusCode)
		}
		v.speak(t, c, "other-app")
		heard, closed := c.hears(v.unlisted)
		if (!v.greets && strings.Contains(heard, v.in)) || !strings.Contains(heard, v.unlisted) {
			t.Errorf("is told %q, want %q", heard, v.unlisted)
		}
		if v.unlisted == "" && (closed == nil || closed.Code != protocol.CloseDenied || !strings.Contains(closed.Text, "use another node")) {
			t.Errorf("closed with %v after %q", closed, heard)
		}
	})
}

func TestAccessIsChecked(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  node.Config
		says string
	}{
		"short token":     {node.Config{Tokens: []string{token, "too-short"}}, "token 2 is not of 16"},
		"token with /":    {node.Config{Tokens: []string{"0123456789abcdef/"}}, "openssl"},
		"empty token":     {node.Config{Tokens: []string{""}}, "openssl"},
		"no name":         {node.Config{Apps: []string{"peerjs:"}}, "DOOR:NAME"},
		"no door":         {node.Config{Apps: []string{"my-key"}}, "DOOR:NAME"},
		"unknown door":    {node.Config{Apps: []string{"perjs:my-key"}}, "there are tracker, peer, peerjs"},
		"no infohash":     {node.Config{Apps: []string{"tracker:abc"}}, "40 hex digits"},
		"app of none":     {node.Config{Apps: []string{"rxdb:my-room"}, Without: []string{"rxdb"}}, "off"},
		"unknown without": {node.Config{Without: []string{"native"}}, "there are tracker, peer, peerjs"},
		"unknown clients": {node.Config{Clients: map[string]int{"x": 1}}, "there are tracker, peer, peerjs"},
		"fewer than none": {node.Config{Clients: map[string]int{"rxdb": -1}}, "--without rxdb"},
	} {
		c.cfg.Listen, c.cfg.NoDHT = "127.0.0.1:0", true
		n, err := node.New(c.cfg)
		if err == nil {
			n.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "0123456789abcdef/") || strings.Contains(err.Error(), "too-short") {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}

// The native door's apps are listed by name or by the id that a secret makes;
// the tracker's by infohash, in both spellings.
func TestListedApps(t *testing.T) {
	secret := protocol.App("peer", []byte("a"), []byte("secret"))
	trystero := "abcdefghij0123456789"
	n := startNode(t, node.Config{Apps: []string{"peer:a", "peer:" + secret.String(), "tracker:" + trystero, "peerjs:a:b"}})
	for app, want := range map[protocol.AppID]bool{
		protocol.App("peer", []byte("a"), nil): true, secret: true, protocol.App("tracker", []byte(trystero), nil): true,
		protocol.App("peerjs", []byte("a:b"), nil): true, protocol.App("peerjs", []byte("a"), nil): false, protocol.App("ywebrtc", []byte("a"), nil): false,
	} {
		if code := n.Relay().Publish(app, "x", []byte("x")); (code == protocol.CodeOK) != want || (!want && code != protocol.CodeDenied) {
			t.Errorf("%s: %v", app, code)
		}
	}
}

// A private node links with others as any node does, and its members meet those
// who come to them.
func TestPrivateNodeIsLinked(t *testing.T) {
	open := startNode(t, node.Config{})
	app := "tracker:" + hex.EncodeToString([]byte(hash("listed-app")))
	n := startNode(t, node.Config{Tokens: []string{token}, Apps: []string{app}, Origins: []string{"https://good.example"}, Peers: []string{"http://" + open.Addr().String()}})
	there := startNode(t, node.Config{Peers: []string{"http://" + n.Addr().String()}})
	a, b := dial(t, n, "/t/"+token), dial(t, there, "/")
	a.until(announce(hash("listed-app"), peer("alice")), reply(hash("listed-app"), 40, 0, 1))
	b.send(announce(hash("listed-app"), peer("bob"), offers(offer("o", "sdp"))))
	b.next()
	a.wants(offered(hash("listed-app"), peer("bob"), "o", `{"type":"offer","sdp":"sdp"}`))
	// What is not listed is not asked about elsewhere.
	b.send(announce(hash("other-app"), peer("bob"), `"left":0`))
	b.next()
	a.send(`{"action":"scrape","info_hash":` + quote(hash("other-app")) + `}`)
	if got := a.next(); !strings.Contains(got, `"complete":0,"incomplete":0`) {
		t.Errorf("it counts those of an app that is not listed: %s", got)
	}
	a.send(announce(hash("other-app"), peer("alice")))
	if got := a.next(); !strings.Contains(got, `"failure reason":"this node serves only`) {
		t.Errorf("got %s", got)
	}
}
