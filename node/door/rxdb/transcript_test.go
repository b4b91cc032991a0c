package rxdb_test

import (
	"encoding/json"
	"io"
	"net/http"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/node/door/rxdb"
	"github.com/peerservers/peerserver/relay"
	"github.com/peerservers/peerserver/testnet"
)

// The server that RxDB's package has was asked the same once, and answered the
// same, but for what is changed here.
func TestAsTheReferenceServer(t *testing.T) {
	t.Parallel()
	s := start(t, door.Config{AllowPrivate: true}, relay.Config{}, 0)
	reference := testnet.ReadTranscript(t, "testdata/reference.json")
	// A signal goes to a member of the room that it names, which is the sender's
	// too. The reference looks at the receiver alone, so that who has learnt an id
	// reaches it from anywhere.
	reference.Step("a signal to another room", 4).Told = nil
	reference.Step("a signal to another room", 5).Told = nil
	reference.Step("a signal before a join", 3).Told = nil
	reference.Step("a signal that names no room", 4).Told = nil
	for _, scene := range reference.Scenes {
		for i := range scene.Steps {
			step := &scene.Steps[i]
			if step.Open != "" {
				step.Open = rxdb.Path + step.Open
			}
			// It closes with a code and says why; the reference means to, but "ws"
			// sends no reason without a code.
			for _, told := range step.Told {
				for k := range told {
					if told[k].Closed != 0 && !step.Close {
						told[k].Closed = websocket.ClosePolicyViolation
					}
				}
			}
		}
		scene.Play(t, s.url, func(message string) string {
			var f frame
			_ = json.Unmarshal([]byte(message), &f)
			return f.YourPeerID
		})
		s.await(t, func(st rxdb.Stats) bool { return st.Clients == 0 })
	}
}

// A browser that is pointed at the address is told what "ws" tells it.
func TestPlainGet(t *testing.T) {
	s := start(t, door.Config{}, relay.Config{}, 0)
	for _, path := range []string{rxdb.Path, rxdb.Path + "/"} {
		r, err := http.Get(s.http + path)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(r.Body)
		r.Body.Close()
		if r.StatusCode != http.StatusUpgradeRequired || string(b) != "Upgrade Required" {
			t.Errorf("%s: %d %s", path, r.StatusCode, b)
		}
	}
}
