package rxdb_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/node/door/rxdb"
	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/relay"
)

// Whatever a client sends, it alone is disconnected.
func TestGarbage(t *testing.T) {
	s := start(t, door.Config{AllowPrivate: true}, relay.Config{}, 0)
	a, b := enters(t, s.url, "heroes"), enters(t, s.url, "heroes")
	a.knows(b)
	deep := strings.Repeat("[", 30_000)
	for name, c := range map[string]struct {
		text   string // %[1]s is the client, %[2]s another
		binary bool
		code   int
	}{
		"nothing":              {"", false, websocket.ClosePolicyViolation},
		"null":                 {"null", false, websocket.ClosePolicyViolation}, // the reference server dies of it
		"list":                 {"[]", false, websocket.ClosePolicyViolation},
		"half":                 {`{"type":"join"`, false, websocket.ClosePolicyViolation},
		"deep":                 {`{"type":` + deep, false, websocket.ClosePolicyViolation},
		"type is a list":       {`{"type":["join"],"room":"heroes"}`, false, websocket.ClosePolicyViolation},
		"room is an object":    {`{"type":"join","room":{"length":50}}`, false, websocket.ClosePolicyViolation},
		"no room":              {`{"type":"join"}`, false, websocket.ClosePolicyViolation},
		"not UTF-8":            {"{\"type\":\"signal\",\"senderPeerId\":\"%[1]s\",\"receiverPeerId\":\"%[2]s\",\"room\":\"heroes\",\"data\":\"\xff\"}", true, websocket.ClosePolicyViolation},
		"sender twice":         {`{"type":"signal","senderPeerId":"%[1]s","receiverPeerId":"%[2]s","room":"heroes","senderPeerId":"%[2]s"}`, false, websocket.ClosePolicyViolation},
		"sender in other case": {`{"type":"signal","senderPeerId":"%[2]s","SenderPeerID":"%[1]s","senderpeerid":"%[1]s","receiverPeerId":"%[2]s","room":"heroes"}`, false, websocket.ClosePolicyViolation},
		"large signal":         {`{"type":"signal","senderPeerId":"%[1]s","receiverPeerId":"%[2]s","room":"heroes","data":"` + strings.Repeat("x", protocol.MaxPayload) + `"}`, false, websocket.CloseMessageTooBig},
		"large message":        {`{"type":"ping","data":"` + strings.Repeat("x", protocol.MaxMessage) + `"}`, false, websocket.CloseMessageTooBig},
	} {
		t.Run(name, func(t *testing.T) {
			bad := enters(t, s.url, "heroes")
			a.knows(b, bad)
			kind := websocket.TextMessage
			if c.binary {
				kind = websocket.BinaryMessage
			}
			text := strings.NewReplacer("%[1]s", bad.id, "%[2]s", a.id).Replace(c.text)
			if err := bad.ws.WriteMessage(kind, []byte(text)); err != nil {
				t.Fatal(err)
			}
			if e := bad.closes(); e.Code != c.code || e.Text == "" {
				t.Errorf("closed with %v", e)
			}
			a.knows(b)
		})
	}
	meet(a, b)
	s.await(t, func(st rxdb.Stats) bool { return st.Clients == 2 && st.Members == 2 && st.Refused >= 13 })
}

// A name that two spell differently is not one that the server checked: the last
// of several counts, as in JavaScript.
func TestLastNameCounts(t *testing.T) {
	s := start(t, door.Config{AllowPrivate: true}, relay.Config{}, 0)
	a, b := enters(t, s.url, "heroes"), enters(t, s.url, "heroes")
	text := fmt.Sprintf(`{"type":"ping","type":"signal","senderPeerId":"x","senderPeerId":%q,"receiverPeerId":%q,"room":"none","room":"heroes"}`, a.id, b.id)
	a.write(text)
	b.hears(text)
}

func TestRoomIsFull(t *testing.T) {
	t.Parallel()
	s := start(t, door.Config{AllowPrivate: true}, relay.Config{}, 0)
	for range rxdb.MaxRoom {
		c := enters(t, s.url, "crowd!")
		go func() { // it takes what it is told
			for {
				if _, _, err := c.ws.ReadMessage(); err != nil {
					return
				}
			}
		}()
	}
	late := dial(t, s.url)
	late.write(`{"type":"join","room":"crowd!"}`)
	if e := late.closes(); e.Code != protocol.CloseTryAgainLater || !strings.Contains(e.Text, "100 members") {
		t.Errorf("closed with %v", e)
	}
	enters(t, s.url, "another")
}

// A client that joins one room after the other meets a quota.
func TestTooManyRooms(t *testing.T) {
	t.Parallel()
	for name, quota := range map[string]door.Quota{"joins": {}, "members": {Members: 50, Messages: -1, AddressMessages: -1}} {
		s := start(t, door.Config{Quota: quota}, relay.Config{}, 0)
		a, b := enters(t, s.url, "heroes"), enters(t, s.url, "heroes")
		greedy := dial(t, s.url)
		for i := range 10_000 {
			if greedy.ws.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, `{"type":"join","room":"room %d"}`, i)) != nil {
				break
			}
		}
		if e := greedy.closes(); e.Code != protocol.CloseTryAgainLater || !strings.HasPrefix(e.Text, "too many") {
			t.Errorf("%s: closed with %v", name, e)
		}
		meet(a, b)
		s.await(t, func(st rxdb.Stats) bool { return st.Members == 2 && st.Clients == 2 })
	}
}

func TestTooManyMessages(t *testing.T) {
	s := start(t, door.Config{Quota: door.Quota{Messages: 1, MessageBurst: 100}}, relay.Config{}, 0)
	a := dial(t, s.url)
	for range 200 {
		if a.ws.WriteMessage(websocket.TextMessage, []byte(`{"type":"ping"}`)) != nil {
			break
		}
	}
	if e := a.closes(); e.Code != protocol.CloseTryAgainLater {
		t.Errorf("closed with %v", e)
	}
}

// A room that is not listed on a private node is refused, and so is one that a
// node has no room for.
func TestRefusedByTheRelay(t *testing.T) {
	t.Parallel()
	ours := protocol.App(rxdb.Name, []byte("our room"), nil)
	s := start(t, door.Config{}, relay.Config{Allows: func(app protocol.AppID) bool { return app == ours }, MaxMembers: 1}, 0)
	c := dial(t, s.url)
	c.write(`{"type":"join","room":"their room"}`)
	if e := c.closes(); e.Code != protocol.CloseDenied || !strings.Contains(e.Text, "use another node") {
		t.Errorf("closed with %v", e)
	}
	enters(t, s.url, "our room")
	c = dial(t, s.url)
	c.write(`{"type":"join","room":"our room"}`)
	if e := c.closes(); e.Code != protocol.CloseTryAgainLater || !strings.Contains(e.Text, "use another node") {
		t.Errorf("closed with %v", e)
	}
}

func TestNoPlace(t *testing.T) {
	t.Parallel()
	s := start(t, door.Config{}, relay.Config{}, 1)
	a := dial(t, s.url)
	ws, _, err := websocket.DefaultDialer.Dial(s.url+rxdb.Path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	if e := (&client{t: t, ws: ws}).closes(); e.Code != protocol.CloseTryAgainLater || !strings.Contains(e.Text, "use another node") {
		t.Errorf("closed with %v", e)
	}
	a.silent()
	a.ws.Close()
	s.await(t, func(st rxdb.Stats) bool { return st.Clients == 0 && st.Full == 1 })
	dial(t, s.url)
}

// Who does not read is let go; the others go on.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	s := start(t, door.Config{AllowPrivate: true}, relay.Config{}, 0)
	slow, a, b := enters(t, s.url, "heroes"), enters(t, s.url, "heroes"), enters(t, s.url, "heroes")
	meet(a, b)
	flood := a.signal(slow.id, `"`+strings.Repeat("x", 50_000)+`"`)
	for range 400 {
		a.write(flood)
	}
	a.knows(b)
	meet(b, a)
}
