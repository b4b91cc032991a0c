package peer

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"google.golang.org/protobuf/proto"

	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/testnet"
)

// record is what a new node would say of itself.
func record(t *testing.T, ttl time.Duration, urls ...string) *protocol.SignedRecord {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	r := &protocol.Record{Seq: time.Now().UnixMilli(), TTL: ttl, URLs: urls}
	if err := protocol.SignRecord(key, r); err != nil {
		t.Fatal(err)
	}
	return r.Signed
}

func TestHomes(t *testing.T) {
	h, err := newHomes([]string{"wss://a.example/", "wss://b.example"}, false)
	if err != nil {
		t.Fatal(err)
	}
	good := record(t, time.Hour, "wss://c.example", "ws://192.0.2.1:8787")
	forged := proto.Clone(record(t, time.Hour, "wss://d.example")).(*protocol.SignedRecord)
	forged.Signature[0] ^= 1
	h.learn([]*protocol.SignedRecord{nil, {}, forged, good, good})
	h.lost("wss://a.example")
	if want := []string{"wss://b.example", "wss://c.example", "wss://a.example"}; !slices.Equal(h.list(), want) {
		t.Errorf("the nodes are %q, want %q", h.list(), want)
	}
	if !h.isNode("wss://c.example", good.Key) || h.isNode("wss://c.example", forged.Key) || !h.isNode("wss://a.example", forged.Key) {
		t.Error("a URL that was learnt is for one key only, one that was given for any")
	}
	for i := range 2 * maxHomes {
		h.learn([]*protocol.SignedRecord{record(t, time.Hour, fmt.Sprintf("wss://n%d.example", i))})
	}
	list := h.list()
	if len(list) != maxHomes || len(h.nodes) != maxHomes-2 || !slices.Contains(list, "wss://a.example") || !slices.Contains(list, "wss://b.example") {
		t.Errorf("%d nodes and %d keys, want %d with those that were given", len(list), len(h.nodes), maxHomes)
	}
	if insecure, err := newHomes([]string{"ws://127.0.0.1:1"}, false); err != nil {
		t.Error(err)
	} else if insecure.learn([]*protocol.SignedRecord{good}); len(insecure.list()) != 3 {
		t.Errorf("who uses ws:// may go to %q", insecure.list())
	}
}

// TestCache: a node that an earlier run has learnt is joined on when the one of
// the options is gone; one at its place with another key is not.
func TestCache(t *testing.T) {
	t.Parallel()
	nodes := testnet.Start(t, 2)
	file := filepath.Join(t.TempDir(), "nodes.json")
	eventually(t, "the other node is kept", func() bool { // as soon as the first knows of it
		join(t, "first", Options{Nodes: []string{nodes.URL(0)}, Cache: file}).leave()
		b, err := os.ReadFile(file)
		return err == nil && strings.Contains(string(b), nodes.URL(1))
	})
	nodes.Kill(0)
	second := join(t, "second", Options{Nodes: []string{nodes.URL(0)}, Cache: file})
	if got := second.Node(); got != nodes.URL(1) {
		t.Errorf("it is on %q, want %q", got, nodes.URL(1))
	}
	second.leave()
	other, err := json.Marshal([]cachedNode{{URL: nodes.URL(1), Node: protocol.NodeID{1}}})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"another key": other, "no JSON": []byte("[{"), "no URL": []byte(`[{"url":"x"}]`)} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if r, err := Join(t.Context(), "test", Options{Nodes: []string{nodes.URL(0)}, Cache: file}); err == nil {
			t.Errorf("%s: it joined on %q", name, r.Node())
			r.Leave(t.Context())
		}
	}
}

// liar is a node that lets in, says something and closes. It counts how often.
func liar(t *testing.T, says ...*protocol.ToPeer) (u string, joins *atomic.Int64) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return impostor(t, key.Public().(ed25519.PublicKey), key, says...)
}

// impostor is a liar that says it is the node id, and has a key.
func impostor(t *testing.T, id []byte, key ed25519.PrivateKey, says ...*protocol.ToPeer) (u string, joins *atomic.Int64) {
	t.Helper()
	joins = new(atomic.Int64)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		ws, err := (&websocket.Upgrader{Subprotocols: []string{subprotocol}}).Upgrade(w, q, nil)
		if err != nil {
			return
		}
		defer ws.Close()
		challenge := &protocol.Challenge{Version: protocol.Version, Node: id, Nonce: make([]byte, protocol.ChallengeNonce)}
		write := func(list ...*protocol.ToPeer) bool {
			for _, m := range list {
				b, err := proto.Marshal(m)
				if err != nil || ws.WriteMessage(websocket.BinaryMessage, b) != nil {
					return false
				}
			}
			return true
		}
		m := new(protocol.ToNode)
		if !write(&protocol.ToPeer{Body: &protocol.ToPeer_Challenge{Challenge: challenge}}) {
			return
		}
		if _, b, err := ws.ReadMessage(); err != nil || proto.Unmarshal(b, m) != nil || m.GetLogin() == nil {
			return
		}
		welcome := &protocol.Welcome{Signature: protocol.SignWelcome(key, challenge, m.GetLogin())}
		if !write(append([]*protocol.ToPeer{
			{Ref: refLogin, Body: &protocol.ToPeer_Welcome{Welcome: welcome}},
			{Ref: refJoin, Body: &protocol.ToPeer_Joined{}},
		}, says...)...) {
			return
		}
		joins.Add(1)
		time.Sleep(20 * time.Millisecond)
	}))
	t.Cleanup(server.Close)
	return "ws" + strings.TrimPrefix(server.URL, "http"), joins
}

// TestNodeThatTalksNonsense: none of it is believed, and a node that lets in
// only to close is not joined on again and again.
func TestNodeThatTalksNonsense(t *testing.T) {
	t.Parallel()
	other := lone(t, "other")
	p, err := other.presence()
	if err != nil {
		t.Fatal(err)
	}
	p.Signature[0] ^= 1
	u, joins := liar(t,
		&protocol.ToPeer{Body: &protocol.ToPeer_Arrived{}},
		&protocol.ToPeer{Body: &protocol.ToPeer_Arrived{Arrived: &protocol.Arrived{Presence: p}}},
		&protocol.ToPeer{Body: &protocol.ToPeer_Departed{Departed: &protocol.Departed{Member: []byte("x")}}},
		&protocol.ToPeer{Body: &protocol.ToPeer_Delivered{}},
		&protocol.ToPeer{Body: &protocol.ToPeer_Delivered{Delivered: &protocol.Delivered{Envelope: &protocol.Envelope{Body: []byte("x")}}}},
		&protocol.ToPeer{Ref: refPart, Body: &protocol.ToPeer_Done{}},
		&protocol.ToPeer{Ref: refPart, Body: &protocol.ToPeer_Done{}},
		&protocol.ToPeer{Body: &protocol.ToPeer_Refused{}},
		&protocol.ToPeer{Body: &protocol.ToPeer_Welcome{Welcome: &protocol.Welcome{Nodes: make([]*protocol.SignedRecord, 100)}}},
		&protocol.ToPeer{},
	)
	began := time.Now()
	alice := join(t, "alice", Options{Nodes: []string{u}})
	time.Sleep(time.Second)
	eventually(t, "she joins again", func() bool { return joins.Load() > 1 })
	// The first two at once; each of the others waits half of twice as long, or longer.
	if n, most := joins.Load(), 3+int64(math.Log2(1+2*float64(time.Since(began)/backoffMin))); n > most {
		t.Errorf("%d joins in %v, want at most %d", n, time.Since(began), most)
	}
	alice.Room.mu.Lock()
	defer alice.Room.mu.Unlock()
	if len(alice.members) > 0 {
		t.Error("a presence that does not verify is believed")
	}
}

// TestNodeProvesWhoItIs: to say the name of a node is not enough to be it.
func TestNodeProvesWhoItIs(t *testing.T) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	u, _ := impostor(t, bytes.Repeat([]byte{9}, ed25519.PublicKeySize), key)
	_, err = Join(t.Context(), "test", Options{Nodes: []string{u}})
	if e, ok := errors.AsType[*protocol.Error](err); !ok || e.Code != protocol.CodeSignature {
		t.Errorf("joined on an impostor: %v", err)
	}
}

// TestPresenceExpires: the node says that this member has departed, so it joins
// again.
func TestPresenceExpires(t *testing.T) {
	r := lone(t, "r")
	r.handle(r.socket, &protocol.ToPeer{Body: &protocol.ToPeer_Departed{Departed: &protocol.Departed{Member: r.self.Bytes()}}})
	m := new(protocol.ToNode)
	if err := proto.Unmarshal(<-r.socket.out, m); err != nil || m.GetJoin() == nil {
		t.Fatalf("it sends %v, %v", m, err)
	}
	p, err := m.GetJoin().GetPresence().Verify(r.app)
	if err != nil || p.Member != r.self || p.Seal != r.seal.Public() {
		t.Errorf("it joins as %v, %v", p, err)
	}
}
