package matchbox_test

import (
	"encoding/json"
	"io"
	"net/http"
	"testing"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/node/door/matchbox"
	"github.com/peerservers/peerserver/relay"
	"github.com/peerservers/peerserver/testnet"
)

// matchbox_server was asked the same once, and answered the same, but for what
// is changed here.
func TestAsTheReferenceServer(t *testing.T) {
	t.Parallel()
	s := start(t, door.Config{AllowPrivate: true}, relay.Config{}, 0)
	reference := testnet.ReadTranscript(t, "testdata/reference.json")
	// A signal goes to a member of the same room or group. The reference gives it to
	// whoever has the id.
	reference.Step("a signal to another room", 2).Told = nil
	reference.Step("a signal to another group", 2).Told = nil
	// An object is written as one; that the reference takes a list as well comes
	// with its parser, and no client sends one.
	reference.Step("a list for an object", 2).Told = nil
	// Binary messages are read as text ones are: the door is not told which it is.
	reference.Step("binary", 2).Told = map[string][]testnet.Told{"b": {{Text: `{"Signal":{"sender":"<a>","data":1}}`}}}
	// When the last of a group goes, the reference tells those who wait for another
	// group, who have never heard of it.
	delete(reference.Step("the last of a group goes", 5).Told, "d")
	for _, scene := range reference.Scenes {
		for i := range scene.Steps {
			if open := &scene.Steps[i].Open; *open != "" {
				*open = matchbox.Path + *open
			}
		}
		scene.Play(t, s.url, func(message string) string {
			var e event
			_ = json.Unmarshal([]byte(message), &e)
			return e.IDAssigned
		})
		s.await(t, func(st matchbox.Stats) bool { return st.Clients == 0 && st.Forming == 0 })
	}
}

// A browser that is pointed at a room is told what the reference server tells it.
func TestPlainGet(t *testing.T) {
	s := start(t, door.Config{}, relay.Config{}, 0)
	for _, path := range []string{"", "/", "/room"} {
		r, err := http.Get(s.http + matchbox.Path + path)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(r.Body)
		r.Body.Close()
		if r.StatusCode != http.StatusBadRequest || string(b) != "Connection header did not include 'upgrade'" {
			t.Errorf("%s: %d %s", path, r.StatusCode, b)
		}
	}
}
