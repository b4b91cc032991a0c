package matchbox_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/node/door/matchbox"
	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/relay"
)

// What is not of the protocol is passed over, and costs nobody anything.
func TestGarbage(t *testing.T) {
	s := start(t, door.Config{AllowPrivate: true}, relay.Config{}, 0)
	a, b := enters(t, s.url, "chess"), enters(t, s.url, "chess")
	a.offers(b)
	garbage := []string{
		"", " ", `"`, `"KeepAlive`, "null", "[", strings.Repeat("[", 30_000), strings.Repeat(`{"Signal":`, 5000),
		`{"Signal":{"receiver":"` + a.id + `"}}`, `{"Signal":{"receiver":"` + a.id + `","data":}}`, `{"Signal":{"receiver":"` + a.id + `","data":1}}}`,
		`{"Signal":{"receiver":"` + strings.ReplaceAll(a.id, "-", "+") + `","data":1}}`, `{"Signal":{"receiver":"{` + a.id + `","data":1}}`,
		`{"Signal":{"receiver":"` + a.id[:35] + `g","data":1}}`, `{"Signal":{"receiver":null,"data":1}}`, `{"Signal":{"receiver":1,"data":1}}`,
	}
	for _, text := range garbage {
		b.write(text)
	}
	if err := b.ws.WriteMessage(websocket.BinaryMessage, []byte("{\"Signal\":{\"receiver\":\""+a.id+"\",\"data\":\"\xff\"}}")); err != nil {
		t.Fatal(err)
	}
	b.silent()
	a.silent()
	if st := s.stats(); int(st.Bad) != len(garbage)+1 || st.Refused != 0 {
		t.Errorf("%+v", st)
	}
	b.signals(strings.ToUpper(strings.ReplaceAll(a.id, "-", "")), `1`) // a UUID all the same
	a.hears(b.id, `1`)
}

func TestTooLarge(t *testing.T) {
	s := start(t, door.Config{AllowPrivate: true}, relay.Config{}, 0)
	a, b := enters(t, s.url, "chess"), enters(t, s.url, "chess")
	a.offers(b)
	most := `"` + strings.Repeat("x", protocol.MaxPayload-2) + `"`
	b.signals(a.id, most)
	a.hears(b.id, most)
	for _, text := range []string{
		fmt.Sprintf(`{"Signal":{"receiver":%q,"data":1%s}}`, a.id, strings.Repeat("0", protocol.MaxPayload)), `"` + strings.Repeat("x", protocol.MaxMessage) + `"`,
	} {
		bad := enters(t, s.url, "chess")
		a.told("NewPeer", bad.id)
		b.told("NewPeer", bad.id)
		bad.write(text)
		if e := bad.closes(); e.Code != websocket.CloseMessageTooBig || e.Text == "" {
			t.Errorf("closed with %v", e)
		}
		a.told("PeerLeft", bad.id)
		b.told("PeerLeft", bad.id)
	}
}

func TestRoomIsFull(t *testing.T) {
	t.Parallel()
	s := start(t, door.Config{AllowPrivate: true}, relay.Config{}, 0)
	for _, room := range []string{"crowd", "crowd?next=0"} {
		for range matchbox.MaxRoom {
			c := enters(t, s.url, room)
			go func() { // it takes what it is told
				for {
					if _, _, err := c.ws.ReadMessage(); err != nil {
						return
					}
				}
			}()
		}
		if e := refused(t, s.url, room); e.Code != protocol.CloseTryAgainLater || !strings.Contains(e.Text, "100 members") {
			t.Errorf("closed with %v", e)
		}
	}
	enters(t, s.url, "another")
	if e := refused(t, s.url, "crowd?next=101"); e.Code != websocket.ClosePolicyViolation || !strings.Contains(e.Text, "over 100") {
		t.Errorf("closed with %v", e)
	}
	if e := refused(t, s.url, "crowd?next=18446744073709551615"); e.Code != websocket.ClosePolicyViolation {
		t.Errorf("closed with %v", e)
	}
}

// refused is how a client that comes is let go, before it is told who it is.
func refused(t *testing.T, url, room string) *websocket.CloseError {
	t.Helper()
	ws, _, err := websocket.DefaultDialer.Dial(url+matchbox.Path+"/"+room, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	c := &client{t: t, ws: ws}
	if e, err := c.tryRead(patience); err == nil {
		t.Fatalf("told %s", e.raw)
	} else if e, ok := err.(*websocket.CloseError); ok { //nolint:errorlint // as gorilla returns it
		return e
	}
	t.Fatal(err)
	return nil
}

// An address that sends many clients meets a quota.
func TestTooManyClients(t *testing.T) {
	t.Parallel()
	for name, quota := range map[string]door.Quota{
		"joins":   {AddressMessages: 1, AddressMessageBurst: 1000},
		"members": {AddressMembers: 10, AddressMessages: -1},
	} {
		s := start(t, door.Config{Quota: quota}, relay.Config{}, 0)
		a, b := enters(t, s.url, "chess"), enters(t, s.url, "chess")
		a.offers(b)
		for i := 0; ; i++ {
			ws, _, err := websocket.DefaultDialer.Dial(s.url+fmt.Sprintf("%s/room%d", matchbox.Path, i), nil)
			if err != nil || i > 400 {
				t.Fatal(name, i, err)
			}
			t.Cleanup(func() { ws.Close() })
			c := &client{t: t, ws: ws}
			if _, err := c.tryRead(patience); err == nil {
				continue
			}
			if s.stats().Refused != 1 {
				t.Errorf("%s: %+v", name, s.stats())
			}
			break
		}
		b.signals(a.id, `1`)
		a.hears(b.id, `1`)
	}
}

// A room that is not listed on a private node is refused, as a group as well, and
// so is one that a node has no room for.
func TestRefusedByTheRelay(t *testing.T) {
	t.Parallel()
	ours := protocol.App(matchbox.Name, []byte("ours"), nil)
	s := start(t, door.Config{}, relay.Config{Allows: func(app protocol.AppID) bool { return app == ours }, MaxMembers: 1}, 0)
	for _, room := range []string{"theirs", "theirs?next=2"} {
		if e := refused(t, s.url, room); e.Code != protocol.CloseDenied || !strings.Contains(e.Text, "use another node") {
			t.Errorf("%s: closed with %v", room, e)
		}
	}
	a := enters(t, s.url, "ours?next=2")
	enters(t, s.url, "ours")
	if e := refused(t, s.url, "ours"); e.Code != protocol.CloseTryAgainLater || !strings.Contains(e.Text, "use another node") {
		t.Errorf("closed with %v", e)
	}
	a.offers(enters(t, s.url, "ours?next=2"))
}

func TestNoPlace(t *testing.T) {
	t.Parallel()
	s := start(t, door.Config{}, relay.Config{}, 1)
	a := enters(t, s.url, "chess")
	if e := refused(t, s.url, "chess"); e.Code != protocol.CloseTryAgainLater || !strings.Contains(e.Text, "use another node") {
		t.Errorf("closed with %v", e)
	}
	a.silent()
	a.ws.Close()
	s.await(t, func(st matchbox.Stats) bool { return st.Clients == 0 && st.Full == 1 })
	enters(t, s.url, "chess")
}

// Who does not read is let go, and has left; the others go on.
func TestSlowReader(t *testing.T) {
	for _, room := range []string{"chess", "chess?next=3"} {
		t.Run(room, func(t *testing.T) {
			t.Parallel()
			s := start(t, door.Config{AllowPrivate: true}, relay.Config{}, 0)
			slow, a, b := enters(t, s.url, room), enters(t, s.url, room), enters(t, s.url, room)
			a.offers(b)
			flood := `"` + strings.Repeat("x", 50_000) + `"`
			for range 400 {
				a.signals(slow.id, flood)
			}
			a.told("PeerLeft", slow.id)
			b.told("PeerLeft", slow.id)
			a.signals(b.id, `1`)
			b.hears(a.id, `1`)
		})
	}
}
