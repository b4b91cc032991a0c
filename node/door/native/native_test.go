package native_test

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"google.golang.org/protobuf/proto"

	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/testnet"
)

var chess = protocol.App("peer", []byte("chess"), nil)

// client speaks the wire by hand.
type client struct {
	t       *testing.T
	ws      *websocket.Conn
	url     string
	key     ed25519.PrivateKey
	session protocol.Session
	seal    protocol.SealKey
	ttl     time.Duration
	asked   *protocol.Challenge
	ref     uint32
	waiting []*protocol.ToPeer // that a request's answer overtook
}

func dial(t *testing.T, url string, n byte) *client {
	t.Helper()
	d := websocket.Dialer{Subprotocols: []string{"peerserver.v1"}}
	ws, _, err := d.Dial(url+"/v1", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.Close() })
	if ws.Subprotocol() != "peerserver.v1" {
		t.Fatalf("the subprotocol is %q: a browser would hang up", ws.Subprotocol())
	}
	seal, err := protocol.NewSealKey([32]byte(bytes.Repeat([]byte{n}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	c := &client{t: t, ws: ws, url: url, key: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, 32)), session: protocol.Session{n}, seal: seal, ttl: time.Hour}
	c.asked = c.read().GetChallenge()
	if c.asked == nil || len(c.asked.Nonce) != protocol.ChallengeNonce {
		t.Fatalf("no challenge: %v", c.asked)
	}
	return c
}

func (c *client) read() *protocol.ToPeer {
	c.t.Helper()
	c.ws.SetReadDeadline(time.Now().Add(25 * time.Second))
	kind, b, err := c.ws.ReadMessage()
	if err != nil || kind != websocket.BinaryMessage {
		c.t.Fatalf("read: kind %d, %v", kind, err)
	}
	m := new(protocol.ToPeer)
	if err := proto.Unmarshal(b, m); err != nil {
		c.t.Fatal(err)
	}
	return m
}

// next is the next message that answers nothing.
func (c *client) next() *protocol.ToPeer {
	c.t.Helper()
	if len(c.waiting) > 0 {
		m := c.waiting[0]
		c.waiting = c.waiting[1:]
		return m
	}
	return c.read()
}

func (c *client) write(m *protocol.ToNode) {
	c.t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		c.t.Fatal(err)
	}
	if err := c.ws.WriteMessage(websocket.BinaryMessage, b); err != nil {
		c.t.Fatal(err)
	}
}

// ask sends a request and returns its answer.
func (c *client) ask(m *protocol.ToNode) *protocol.ToPeer {
	c.t.Helper()
	c.ref++
	m.Ref = c.ref
	c.write(m)
	for {
		got := c.read()
		if got.Ref == m.Ref {
			return got
		}
		c.waiting = append(c.waiting, got)
	}
}

func (c *client) member() protocol.Member {
	return protocol.Member{Peer: protocol.PeerID(c.key.Public().(ed25519.PublicKey)), Session: c.session}
}

func (c *client) login() *protocol.ToPeer {
	c.t.Helper()
	l := protocol.SignLogin(c.key, c.asked, bytes.Repeat([]byte{1}, protocol.LoginNonce), c.url)
	return c.ask(&protocol.ToNode{Body: &protocol.ToNode_Login{Login: l}})
}

func (c *client) presence(app protocol.AppID) *protocol.SignedPresence {
	c.t.Helper()
	p := &protocol.PeerPresence{Member: c.member(), Seal: c.seal.Public(), Issued: time.Now(), TTL: c.ttl, Name: fmt.Sprint("peer ", c.session[0])}
	if err := protocol.SignPresence(c.key, app, p); err != nil {
		c.t.Fatal(err)
	}
	return p.Signed
}

func (c *client) join(app protocol.AppID) *protocol.ToPeer {
	c.t.Helper()
	return c.ask(&protocol.ToNode{Body: &protocol.ToNode_Join{Join: &protocol.Join{App: app[:], Presence: c.presence(app)}}})
}

// enters is the usual beginning.
func enters(t *testing.T, url string, n byte, app protocol.AppID) *client {
	t.Helper()
	c := dial(t, url, n)
	if w := c.login().GetWelcome(); w == nil || len(w.Nodes) == 0 {
		t.Fatalf("not welcome: %v", w)
	}
	if c.join(app).GetJoined() == nil {
		t.Fatal("not joined")
	}
	return c
}

func (c *client) sees(other *client, before bool) {
	c.t.Helper()
	if a := c.shown(other); a.Before != before {
		c.t.Fatalf("saw %v with before %v, want %v", other.session, a.Before, before)
	}
}

// meet has two on different nodes see each other. Who joined at nearly the same
// time may be either's elder, as long as they agree.
func meet(one, two *client) {
	one.t.Helper()
	if a, b := one.shown(two), two.shown(one); a.Before == b.Before {
		one.t.Fatalf("each is shown the other with before %v", a.Before)
	}
}

func (c *client) shown(other *client) *protocol.Arrived {
	c.t.Helper()
	a := c.next().GetArrived()
	if a == nil || !bytes.Equal(a.App, chess[:]) || !bytes.Equal(a.Session, c.session[:]) || !bytes.Equal(a.Node, other.asked.Node) {
		c.t.Fatalf("saw %v, want %v", a, other.session)
	}
	p, err := a.Presence.Verify(chess)
	if err != nil || p.Member != other.member() || p.Seal != other.seal.Public() {
		c.t.Fatalf("saw %+v, %v", p, err)
	}
	return a
}

func (c *client) envelope(to *client, sequence uint64, text string) *protocol.Envelope {
	c.t.Helper()
	h := protocol.EnvelopeHeader{App: chess, From: c.member(), To: to.member(), Sequence: sequence, Kind: protocol.EnvelopeBody_KIND_MESSAGE}
	e, err := h.Seal(c.key, to.seal.Public(), protocol.AppSecret{}, []byte(text))
	if err != nil {
		c.t.Fatal(err)
	}
	return e
}

func (c *client) send(to []byte, e *protocol.Envelope) *protocol.ToPeer {
	c.t.Helper()
	return c.ask(&protocol.ToNode{Body: &protocol.ToNode_Send{Send: &protocol.Send{App: chess[:], Session: c.session[:], To: to, Envelope: e}}})
}

func (c *client) hears(from *client, text string) {
	c.t.Helper()
	d := c.next().GetDelivered()
	if d == nil {
		c.t.Fatal("nothing delivered")
	}
	h, plain, err := d.Envelope.Open(chess, c.member(), c.seal, protocol.AppSecret{})
	if err != nil || h.From != from.member() || string(plain) != text || string(d.From) != string(from.member().Bytes()) {
		c.t.Fatalf("heard %q, %v, want %q", plain, err, text)
	}
}

// Two peers on two nodes are shown each other, and what one sends the other
// opens; when one goes the other is told.
func TestTwoNodes(t *testing.T) {
	t.Parallel()
	net := testnet.Start(t, 2)
	a := enters(t, net.URL(0), 1, chess)
	b := enters(t, net.URL(1), 2, chess)
	meet(a, b)
	for i, text := range []string{"one", "two", "three"} {
		if a.send(b.member().Bytes(), a.envelope(b, uint64(i+1), text)).GetDone() == nil {
			t.Fatal("not sent")
		}
		b.hears(a, text)
		if b.send(a.member().Bytes(), b.envelope(a, uint64(i+1), text)).GetDone() == nil {
			t.Fatal("not sent back")
		}
		a.hears(b, text)
	}
	if b.ask(&protocol.ToNode{Body: &protocol.ToNode_Part{Part: &protocol.Part{App: chess[:], Session: b.session[:]}}}).GetDone() == nil {
		t.Fatal("could not part")
	}
	if d := a.next().GetDeparted(); d == nil || string(d.Member) != string(b.member().Bytes()) || d.Lost {
		t.Fatalf("a saw %v, want that b left", d)
	}
	if r := a.send(b.member().Bytes(), a.envelope(b, 4, "late")).GetRefused(); r == nil || protocol.Code(r.Code) != protocol.CodeUnknownPeer {
		t.Fatalf("a send to who left: %v", r)
	}
}

// The memberships of a socket that ends are lost in the end; a second session of the same peer is
// another member.
func TestSessions(t *testing.T) {
	t.Parallel()
	net := testnet.Start(t, 1)
	watcher := enters(t, net.URL(0), 9, chess)
	one := enters(t, net.URL(0), 1, chess)
	two := dial(t, net.URL(0), 1)
	two.session = protocol.Session{2}
	two.login()
	if j := two.join(chess).GetJoined(); j == nil || j.Members != 2 {
		t.Fatalf("joined %v", j)
	}
	watcher.sees(one, false)
	watcher.sees(two, false)
	watcher.send(two.member().Bytes(), watcher.envelope(two, 1, "to one session"))
	// Two members were there: in which order they are shown is random.
	for range 2 {
		if two.next().GetArrived() == nil {
			t.Fatal("not shown who was there")
		}
	}
	two.hears(watcher, "to one session")
	one.ws.Close()
	if d := watcher.next().GetDeparted(); d == nil || !d.Lost || string(d.Member) != string(one.member().Bytes()) {
		t.Fatalf("saw %v, want that the first session is lost", d)
	}
}

// Whoever is not the key's owner, or shows a login meant for somewhere else, is
// not let in.
func TestNotLetIn(t *testing.T) {
	t.Parallel()
	net := testnet.Start(t, 2)
	refused := func(m *protocol.ToPeer, want protocol.Code) {
		t.Helper()
		if r := m.GetRefused(); r == nil || protocol.Code(r.Code) != want || r.Text == "" {
			t.Errorf("answer %v, want %v", m, want)
		}
	}
	c := dial(t, net.URL(0), 1)
	refused(c.join(chess), protocol.CodeDenied) // before the login
	other := dial(t, net.URL(1), 1)
	c.asked, other.asked = other.asked, c.asked // what another node asked
	refused(c.login(), protocol.CodeSignature)
	c = dial(t, net.URL(0), 1)
	c.url = "wss://evil.example.org" // where the client thought it was
	refused(c.login(), protocol.CodeDenied)
	c.url = net.URL(1)
	refused(c.login(), protocol.CodeDenied)
	c.url = net.URL(0)
	if c.login().GetWelcome() == nil {
		t.Fatal("not welcome after all")
	}
	refused(c.login(), protocol.CodeMalformed) // twice
	stolen := dial(t, net.URL(0), 2).presence(chess)
	refused(c.ask(&protocol.ToNode{Body: &protocol.ToNode_Join{Join: &protocol.Join{App: chess[:], Presence: stolen}}}), protocol.CodeDenied)
	elsewhere := c.presence(protocol.App("peer", []byte("go"), nil))
	refused(c.ask(&protocol.ToNode{Body: &protocol.ToNode_Join{Join: &protocol.Join{App: chess[:], Presence: elsewhere}}}), protocol.CodeDenied)
	refused(c.send(c.member().Bytes(), nil), protocol.CodeUnknownPeer) // without having joined
	if c.join(chess).GetJoined() == nil {
		t.Fatal("could not join after all")
	}
	refused(c.send([]byte("short"), c.envelope(c, 1, "x")), protocol.CodeMalformed)
	refused(c.send(c.member().Bytes(), nil), protocol.CodeTooLarge)
	refused(c.send(c.member().Bytes(), &protocol.Envelope{Body: make([]byte, protocol.MaxPayload)}), protocol.CodeTooLarge)
	refused(c.ask(&protocol.ToNode{}), protocol.CodeMalformed)
	if err := c.ws.WriteMessage(websocket.BinaryMessage, []byte{0xff}); err != nil {
		t.Fatal(err)
	}
	refused(c.read(), protocol.CodeMalformed)
	if c.ask(&protocol.ToNode{Body: &protocol.ToNode_Beat{Beat: &protocol.Beat{}}}).GetDone() == nil {
		t.Error("the connection did not outlive a bad message")
	}
}

// A socket without the subprotocol is none of ours.
func TestSubprotocol(t *testing.T) {
	t.Parallel()
	net := testnet.Start(t, 1)
	_, answer, err := websocket.DefaultDialer.Dial(net.URL(0)+"/v1", nil)
	if err == nil || answer == nil || answer.StatusCode != 400 {
		t.Errorf("%v, %v", answer, err)
	}
}

// A presence that has expired is shown no more, and its peer is told; it may
// join anew.
func TestExpires(t *testing.T) {
	t.Parallel()
	net := testnet.Start(t, 1)
	watcher := enters(t, net.URL(0), 9, chess)
	c := dial(t, net.URL(0), 1)
	c.ttl = time.Second
	c.login()
	c.join(chess)
	c.sees(watcher, true)
	watcher.sees(c, false)
	for who, d := range map[string]*protocol.Departed{"the peer": c.next().GetDeparted(), "the other": watcher.next().GetDeparted()} {
		if d == nil || string(d.Member) != string(c.member().Bytes()) || d.Lost {
			t.Errorf("%s was told %v", who, d)
		}
	}
	c.ttl = time.Hour
	if c.join(chess).GetJoined() == nil {
		t.Error("could not join anew")
	}
	watcher.sees(c, false)
}

// A peer whose node is lost is shown as lost, not as one that left, and what is
// sent to it fails in time.
func TestNodeLost(t *testing.T) {
	t.Parallel()
	net := testnet.Start(t, 2)
	a := enters(t, net.URL(0), 1, chess)
	b := enters(t, net.URL(1), 2, chess)
	meet(a, b)
	net.Kill(1)
	a.does(a.send(b.member().Bytes(), a.envelope(b, 1, "lost")))
	ref := a.ref
	if m := a.next(); m.Ref != ref {
		t.Errorf("a was told %v", m)
	} else {
		a.isRefused(m, protocol.CodeNodeGone, 5000)
	}
	if d := a.next().GetDeparted(); d == nil || !d.Lost {
		t.Fatalf("a saw %v, want that b is lost", d)
	}
}

// A second join of a session renews its presence; nobody is told that it left.
func TestJoinsAnew(t *testing.T) {
	t.Parallel()
	net := testnet.Start(t, 1)
	watcher := enters(t, net.URL(0), 9, chess)
	c := enters(t, net.URL(0), 1, chess)
	watcher.sees(c, false)
	for range 3 {
		if c.join(chess).GetJoined() == nil {
			t.Fatal("not joined anew")
		}
	}
	if watcher.send(c.member().Bytes(), watcher.envelope(c, 1, "still there?")).GetDone() == nil {
		t.Fatal("not sent")
	}
	if len(watcher.waiting) > 0 {
		t.Errorf("the other was told %v", watcher.waiting)
	}
	for c.next().GetArrived() != nil { // the watcher, after each join
	}
}

// More than fifty are there: fifty are shown, and how many there are is said.
func TestSample(t *testing.T) {
	t.Parallel()
	net := testnet.Start(t, 1)
	for n := range byte(protocol.PeerSample + 5) {
		enters(t, net.URL(0), n+1, chess)
	}
	c := dial(t, net.URL(0), 200)
	c.login()
	if j := c.join(chess).GetJoined(); j == nil || j.Members != protocol.PeerSample+5 {
		t.Fatalf("joined %v", j)
	}
	seen := make(map[string]bool)
	for range protocol.PeerSample {
		a := c.next().GetArrived()
		if a == nil || !a.Before {
			t.Fatalf("saw %v", a)
		}
		seen[string(a.Presence.Key)] = true
	}
	if len(seen) != protocol.PeerSample {
		t.Errorf("%d were shown", len(seen))
	}
	c.write(&protocol.ToNode{Ref: 99, Body: &protocol.ToNode_Beat{Beat: &protocol.Beat{}}})
	if m := c.next(); m.Ref != 99 {
		t.Errorf("more than %d were shown: %v", protocol.PeerSample, strings.Fields(m.String())[0])
	}
}

// Whatever a peer sends, before its login and after, the connection answers
// what comes next.
func FuzzToNode(f *testing.F) {
	net := testnet.Start(f, 1)
	app := chess
	for _, body := range []*protocol.ToNode{
		{Ref: 1, Body: &protocol.ToNode_Login{Login: &protocol.Login{Key: make([]byte, 32), Nonce: make([]byte, 16), Url: "ws://x"}}},
		{Ref: 2, Body: &protocol.ToNode_Join{Join: &protocol.Join{App: app[:], Presence: &protocol.SignedPresence{Key: make([]byte, 32)}}}},
		{Ref: 3, Body: &protocol.ToNode_Join{Join: &protocol.Join{App: app[:]}}},
		{Ref: 4, Body: &protocol.ToNode_Part{Part: &protocol.Part{App: app[:], Session: []byte{3, 0, 0, 0, 0, 0, 0, 0}}}},
		{Ref: 5, Body: &protocol.ToNode_Send{Send: &protocol.Send{App: app[:], Session: []byte{3, 0, 0, 0, 0, 0, 0, 0}, To: make([]byte, 40), Envelope: &protocol.Envelope{Body: []byte("x")}}}},
		{Ref: 6, Body: &protocol.ToNode_Beat{}},
		{Ref: 7, Body: &protocol.ToNode_Broadcast{Broadcast: &protocol.Broadcast{App: app[:], Session: []byte{3, 0, 0, 0, 0, 0, 0, 0}, Envelope: &protocol.Envelope{Body: []byte("x")}}}},
	} {
		b, err := proto.Marshal(body)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, c := range []*client{dial(t, net.URL(0), 3), enters(t, net.URL(0), 3, app)} {
			if err := c.ws.WriteMessage(websocket.BinaryMessage, b); err != nil {
				t.Fatal(err)
			}
			const last = 1 << 31
			c.write(&protocol.ToNode{Ref: last, Body: &protocol.ToNode_Beat{Beat: &protocol.Beat{}}})
			for c.read().Ref != last {
			}
			c.ws.Close()
		}
	})
}
