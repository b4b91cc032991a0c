package wsrelay_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/node/door/wsrelay"
	"github.com/peerservers/peerserver/relay"
	"github.com/peerservers/peerserver/testnet"
)

// The server in Trystero's repository was asked the same once, and answered the
// same.
func TestAsTheReferenceServer(t *testing.T) {
	s := start(t, door.Config{AllowPrivate: true}, relay.Config{}, 0)
	for _, scene := range testnet.ReadTranscript(t, "testdata/reference.json").Scenes {
		clients, messages := 0, s.stats().Messages
		for i := range scene.Steps {
			step := &scene.Steps[i]
			switch {
			case step.Open != "":
				step.Open = path + step.Open
				clients++
			case step.Close:
				clients--
			default:
				messages++
			}
			clients, messages := clients, messages
			step.Then = func() {
				s.await(t, func(now wsrelay.Stats) bool { return now.Clients == clients && now.Messages == messages })
			}
		}
		scene.Play(t, s.url, func(string) string { return "" })
		s.await(t, func(now wsrelay.Stats) bool { return now.Clients == 0 && now.Topics == 0 && now.Subscriptions == 0 })
	}
}

// A browser that is pointed at the address is told what "ws" tells it.
func TestPlainGet(t *testing.T) {
	s := start(t, door.Config{}, relay.Config{}, 0)
	for _, path := range []string{path, path + "/"} {
		r, err := http.Get(s.http + path)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(r.Body)
		r.Body.Close()
		if r.StatusCode != http.StatusUpgradeRequired || string(b) != "Upgrade Required" || r.Header.Get("Content-Type") != "text/plain" {
			t.Errorf("%s: %d %s", path, r.StatusCode, b)
		}
	}
}
