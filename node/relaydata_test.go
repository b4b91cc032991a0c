package node_test

import (
	"bytes"
	"crypto/ed25519"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"google.golang.org/protobuf/proto"

	"github.com/peerservers/peerserver/node"
	"github.com/peerservers/peerserver/protocol"
)

// Relayed data passes by default, does not when it is off, and is counted.
func TestRelayData(t *testing.T) {
	for name, rate := range map[string]int{"by default": 0, "little": 1000, "none": -1} {
		t.Run(name, func(t *testing.T) {
			n := startNode(t, node.Config{RelayData: rate, Admin: "127.0.0.1:0"})
			sentTwice := sendsData(t, n)
			code := protocol.Code(sentTwice[1].GetRefused().GetCode())
			switch {
			case rate == 0 && (sentTwice[0].GetDone() == nil || sentTwice[1].GetDone() == nil):
				t.Errorf("refused: %v", sentTwice)
			case rate > 0 && (sentTwice[0].GetDone() == nil || code != protocol.CodeRate):
				t.Errorf("a low rate: %v", sentTwice)
			case rate < 0 && (sentTwice[0].GetRefused() == nil || code != protocol.CodeDenied):
				t.Errorf("none: %v", sentTwice)
			}
			answer, err := http.Get("http://" + n.Admin().String() + "/metrics")
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			all, err := io.ReadAll(answer.Body)
			passed := map[bool]string{true: "[1-9]", false: "0$"}[rate >= 0]
			for _, want := range []string{`data_bytes\{door="peer"\} ` + passed, `data_messages\{door="peer"\} ` + passed, `data_refused\{door="peer"\} `} {
				if err != nil || !regexp.MustCompile(`(?m)^peerserver_door_`+want).Match(all) {
					t.Errorf("%v, metrics lack %s", err, want)
				}
			}
		})
	}
	fails(t, node.Config{RelayData: 1 << 30}, "relayed data", "67108864")
}

// sendsData has a peer join and send itself 40 KB twice.
func sendsData(t *testing.T, n *node.Node) (answers []*protocol.ToPeer) {
	t.Helper()
	url := "ws://" + n.Addr().String()
	d := websocket.Dialer{Subprotocols: []string{"peerserver.v1"}}
	ws, _, err := d.Dial(url+"/v1", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	read := func(ref uint32) *protocol.ToPeer {
		for {
			ws.SetReadDeadline(time.Now().Add(25 * time.Second))
			_, b, err := ws.ReadMessage()
			m := new(protocol.ToPeer)
			if err != nil || proto.Unmarshal(b, m) != nil {
				t.Fatal(err)
			}
			if m.Ref == ref {
				return m
			}
		}
	}
	ask := func(m *protocol.ToNode) *protocol.ToPeer {
		b, err := proto.Marshal(m)
		if err == nil {
			err = ws.WriteMessage(websocket.BinaryMessage, b)
		}
		if err != nil {
			t.Fatal(err)
		}
		return read(m.Ref)
	}
	key, app := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32)), protocol.App("peer", []byte("chess"), nil)
	p := &protocol.PeerPresence{Member: protocol.Member{Session: protocol.Session{1}}, Seal: [32]byte{1}, Issued: time.Now(), TTL: time.Hour}
	if err := protocol.SignPresence(key, app, p); err != nil {
		t.Fatal(err)
	}
	login := protocol.SignLogin(key, read(0).GetChallenge(), make([]byte, protocol.LoginNonce), url)
	ask(&protocol.ToNode{Ref: 1, Body: &protocol.ToNode_Login{Login: login}})
	if ask(&protocol.ToNode{Ref: 2, Body: &protocol.ToNode_Join{Join: &protocol.Join{App: app[:], Presence: p.Signed}}}).GetJoined() == nil {
		t.Fatal("not joined")
	}
	for ref := range uint32(2) {
		answers = append(answers, ask(&protocol.ToNode{Ref: 3 + ref, Body: &protocol.ToNode_Send{Send: &protocol.Send{
			App: app[:], Session: p.Member.Session[:], To: p.Member.Bytes(), Data: true,
			Envelope: &protocol.Envelope{Body: []byte(strings.Repeat("x", 40<<10))},
		}}}))
	}
	return answers
}
