package peerjs_test

import (
	"crypto/ed25519"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/node/door/peerjs"
	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/relay"
	"github.com/peerservers/peerserver/testnet"
)

const full = `{"type":"ERROR","payload":{"msg":"Server has reached its concurrent user limit"}}`

func failure(start string) string { return `{"type":"ERROR","payload":{"msg":"` + start }

// No message of one client costs it, or another, its connection, but one that no
// client ever sends.
func TestGarbage(t *testing.T) {
	_, at := pair(t, peerjs.Config{})
	victim, witness := at[1].enters(t, "victim"), at[0].enters(t, "witness")
	large := strings.Repeat("x", protocol.MaxPayload)
	c := at[0].enters(t, "hostile")
	for _, s := range []string{
		"\x00\xff\xfe", `{"type":"OFFER","dst":"victim","payload":"` + "\xff" + `"}`, `{"type":"OFFER","dst":"victim","payload":` + strings.Repeat("[", 30_000),
		strings.Repeat(`{"type":`, 8000), `{"type":"OFFER","dst":"victim","payload":nul}`, `{"type":"OFFER","dst":"victim"}}`, strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000),
		`{"type":"OFFER","dst":"` + strings.Repeat("x", 60_000) + `"}`, `{"type":"LEAVE","dst":"<script>"}`, `{"type":"OFFER","dst":["victim"]}`,
	} {
		c.send(s)
		c.sendAs(websocket.BinaryMessage, s)
		c.send(strings.ReplaceAll(s, "victim", "witness"))
	}
	c.send(message("OFFER", "victim", `"`+large[:len(large)-3]+`"`)) // just fits, with its quotes and the kind
	victim.wants(relayed("OFFER", "hostile", "victim", `"`+large[:len(large)-3]+`"`))
	c.send(message("OFFER", "victim", `"`+large[:len(large)-2]+`"`))
	if got := c.next(); !strings.HasPrefix(got, failure("A message is too large")) {
		t.Errorf("a payload that is too large: %.200s", got)
	}
	c.send(message("OFFER", "victim", `"`+large+large+`"`))
	if got := c.next(); !strings.HasPrefix(got, failure("A message is too large")) {
		t.Errorf("a message that is too large: %.200s", got)
	}
	c.calls("hostile", victim, "victim")
	c.silent("hostile")
	_ = c.ws.WriteMessage(websocket.TextMessage, make([]byte, 2<<20)) // it may be closed in the middle
	select {
	case err := <-c.end:
		c.end <- err
	case <-time.After(patience):
		t.Error("a message of 2 MiB is taken")
	}
	witness.calls("witness", victim, "victim")
}

// What another node sends is looked at before a client is sent it.
func TestGarbageFromAnotherNode(t *testing.T) {
	n, at := pair(t, peerjs.Config{})
	victim, friend := at[0].enters(t, "victim"), at[1].enters(t, "friend")
	friend.calls("friend", victim, "victim")
	app := protocol.App(peerjs.Name, []byte("chess"), nil)
	for i, id := range []string{"hostile", `x","type":"ERROR`, "<b>", "", strings.Repeat("x", 64)} {
		m, err := n.Relay(1).Join(app, relay.Joining{ID: id + "\x00"[:min(1, max(0, 1-len(id)))], Sink: deaf{}})
		if err != nil {
			t.Fatal(err)
		}
		for _, payload := range []string{
			"", "\x00{}", "\x06{}", "\xff{}", "\x01{", "\x01}", "\x01{},\"type\":\"ERROR\"", "\x01\"\xff\"", "\x02" + strings.Repeat("[", 30_000), "\x05nul",
			string(make([]byte, protocol.MaxPayload)),
		} {
			m.Send(relay.Message{Kind: relay.KindDirect, To: "victim", Payload: []byte(payload), Wait: true})
			m.Send(relay.Message{Kind: relay.KindData, To: "victim", Payload: []byte(payload)})
		}
		m.Send(relay.Message{Kind: relay.KindDirect, To: "victim", Payload: []byte("\x01 {} "), Wait: true})
		if i == 0 {
			victim.wants(relayed("OFFER", "hostile", "victim", " {} "))
		}
		if i == 4 {
			victim.wants(relayed("OFFER", id, "victim", " {} "))
		}
	}
	victim.silent("victim")
	friend.calls("friend", victim, "victim")
}

// deaf is a sink.
type deaf struct{}

func (deaf) Deliver(*relay.Event) bool { return true }

// Who claims ids one after the other meets a quota, told as the reference server
// tells it.
func TestTenThousandIDs(t *testing.T) {
	n := testnet.Start(t, 1)
	p := openAt(t, n, 0, peerjs.Config{}, door.Config{})
	resident := p.enters(t, "resident")
	for i := range 10_000 {
		c := p.claim(t, fmt.Sprint("id", i))
		got := c.next()
		c.ws.Close()
		if got == full {
			if i < 100 {
				t.Errorf("only %d", i)
			}
			resident.silent("resident")
			return
		}
		if got != opened {
			t.Fatal(got)
		}
	}
	t.Error("they are all there")
}

// The same without a connection that stays.
func TestTenThousandIDsAlone(t *testing.T) {
	n := testnet.Start(t, 1)
	p := openAt(t, n, 0, peerjs.Config{}, door.Config{})
	for i := range 10_000 {
		c := p.claim(t, fmt.Sprint("id", i))
		got := c.next()
		c.ws.Close()
		if got == full {
			return
		}
		if got != opened {
			t.Fatal(got)
		}
	}
	t.Error("they are all there")
}

// One client that looks for more than it may is told at once that they are not
// there, and costs the others nothing.
func TestTenThousandThatAreNotThere(t *testing.T) {
	t.Parallel()
	_, at := pair(t, peerjs.Config{})
	c, friend := at[0].enters(t, "seeker"), at[1].enters(t, "friend")
	for i := range 10_000 {
		c.send(message("OFFER", fmt.Sprint("nobody", i), "1"))
	}
	seen := make(map[string]bool)
	for range 10_000 {
		seen[c.next()] = true
	}
	for i := range 10_000 {
		if !seen[expired(fmt.Sprint("nobody", i), "seeker")] {
			t.Fatalf("nothing of nobody%d", i)
		}
	}
	c.calls("seeker", friend, "friend")
	friend.silent("friend")
}

// Who sends too many messages is told so and closed, and nobody else.
func TestTooManyMessages(t *testing.T) {
	n := testnet.Start(t, 1)
	p := openAt(t, n, 0, peerjs.Config{}, door.Config{})
	c, friend := p.enters(t, "hostile"), p.enters(t, "friend")
	for range 5000 {
		if c.ws.WriteMessage(websocket.TextMessage, []byte(`{"type":"HEARTBEAT"}`)) != nil {
			break
		}
	}
	c.wants(failure("Too many messages\"}}"))
	if code := c.closed(); code != protocol.CloseTryAgainLater {
		t.Errorf("closed with %d", code)
	}
	friend.silent("friend")
}

// A client that does not read loses what it is sent; who sends it is told, and
// others are not concerned.
func TestSlowReader(t *testing.T) {
	_, at := pair(t, peerjs.Config{})
	url := "ws://" + at[1].addr + "/peerjs?" + query("chess", "slow", "x")
	ws, answer, err := websocket.DefaultDialer.Dial(url, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	defer ws.Close()
	if _, b, err := ws.ReadMessage(); err != nil || string(b) != opened {
		t.Fatalf("%s, %v", b, err)
	}
	local, far, friend := at[1].enters(t, "local"), at[0].enters(t, "far"), at[1].enters(t, "friend")
	payload := `"` + strings.Repeat("x", 50_000) + `"`
	for _, c := range []*client{local, far} {
		eventually(t, func() bool {
			for range 20 {
				c.send(message("CANDIDATE", "slow", payload))
			}
			c.sync()
			return len(c.got) > 0
		}, "all is kept for one who does not read")
	}
	local.wants(expired("slow", "local"))
	far.wants(expired("slow", "far"))
	friend.calls("friend", local, "local")
	// It reads again, and is there.
	_ = ws.SetReadDeadline(time.Now().Add(patience))
	for {
		friend.send(message("OFFER", "slow", `"again"`))
		_, b, err := ws.ReadMessage()
		if err != nil {
			t.Fatal(err)
		}
		if string(b) == relayed("OFFER", "friend", "slow", `"again"`) {
			return
		}
	}
}

// A key that the node does not serve is told as the reference server tells it.
func TestKeysThatAreNotServed(t *testing.T) {
	app := protocol.App(peerjs.Name, []byte("chess"), nil)
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := relay.New(relay.Config{Key: key, Allows: func(a protocol.AppID) bool { return a == app }})
	if err != nil {
		t.Fatal(err)
	}
	p := openOn(t, r, peerjs.Config{Discovery: []string{"go"}}, door.Config{AllowPrivate: true})
	p.enters(t, "alice")
	for _, key := range []string{"go", "peerjs", strings.Repeat("k", 129), "\xff"} {
		c := p.connect(t, query(key, "alice", "x"))
		c.wants(failure("Invalid key provided\"}}"))
		if code := c.closed(); code != websocket.CloseNoStatusReceived {
			t.Errorf("closed with %d", code)
		}
	}
	if status, _, _ := p.get(t, "/peerjs-server/go/peers", ""); status != 401 {
		t.Errorf("it is listed: %d", status)
	}
	if s := p.stats(); s.Clients != 1 || s.Members != 1 || s.Refused != 4 {
		t.Errorf("%+v", s)
	}
}

// The node's token may be a client's token or its key; who has none is told so.
func TestPrivateNode(t *testing.T) {
	t.Parallel()
	const token = "0123456789abcdef"
	n := testnet.Start(t, 1)
	p := openAt(t, n, 0, peerjs.Config{}, door.Config{AllowPrivate: true, Tokens: []string{token}})
	for _, q := range []string{query("chess", "alice", token), query(token, "alice", "x")} {
		p.connect(t, q).wants(opened)
	}
	c := p.connect(t, query("chess", "alice", "x"))
	c.wants(failure("Invalid key provided\"}}"))
	if code := c.closed(); code != protocol.CloseDenied {
		t.Errorf("closed with %d", code)
	}
}

func TestPlaces(t *testing.T) {
	n := testnet.Start(t, 1)
	p := open(t, n, 0, peerjs.Config{Clients: 2})
	a := p.enters(t, "a")
	p.enters(t, "b")
	for range 3 {
		c := p.claim(t, "c")
		c.wants(full)
		c.closed()
		p.connect(t, "").wants(failure("No id, token, or key supplied to websocket server\"}}"))
		taken := p.connect(t, query("chess", "a", "x")) // there is no place to ask from
		taken.wants(full)
	}
	a.leaves()
	eventually(t, func() bool { return p.stats().Clients == 1 }, "the place is kept")
	p.enters(t, "c")
	if s := p.stats(); s.Members != 2 || s.Clients != 2 {
		t.Errorf("%+v", s)
	}
}
