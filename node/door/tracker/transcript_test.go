package tracker_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/testnet"
)

// bittorrent-tracker's server was asked the same once, and answered the same, but
// for what is changed here.
func TestAsTheReferenceServer(t *testing.T) {
	t.Parallel()
	net := testnet.Start(t, 1)
	for _, scene := range reference(t).Scenes {
		scene.Play(t, net.URL(0), func(string) string { return "" })
		for end := time.Now().Add(30 * time.Second); net.Relay(0).Stats().Members > 0; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: members stay", scene.Name)
			}
		}
	}
}

func reference(t *testing.T) *testnet.Transcript {
	t.Helper()
	r := testnet.ReadTranscript(t, "testdata/reference.json")
	for i := range r.Scenes {
		for k := range r.Scenes[i].Steps {
			step := &r.Scenes[i].Steps[k]
			for _, list := range step.Told {
				for n := range list {
					list[n].Text = ours(t, step, list[n].Text)
				}
			}
		}
	}
	// Offers are held for who comes within their time.
	const held = `{"action":"announce","offer":{"type":"offer","sdp":"v=0\r\né <&> 1"},"offer_id":"offer 1.............","peer_id":"a...................","info_hash":"swarm..............."}`
	late := r.Step("an offer before anybody else is there", 3)
	late.Told["b"] = append(late.Told["b"], testnet.Told{Text: held})
	return r
}

// ours is what a message of the reference server is here, in answer to a step.
func ours(t *testing.T, step *testnet.Step, text string) string {
	t.Helper()
	var m map[string]any
	if text == "" {
		return ""
	}
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	// In small swarms clients are to come again before held offers are too old.
	if m["interval"] != nil {
		m["interval"] = protocol.IntervalSmall / time.Second
	}
	if m["flags"] != nil {
		m["flags"] = map[string]any{"min_request_interval": protocol.IntervalSmall / time.Second}
	}
	if reason, ok := m["failure reason"].(string); ok {
		// A message without an action has the library's client wait for minutes, and
		// one without an info_hash has it throw.
		m["action"], m["info_hash"] = "announce", ""
		var sent struct {
			Hash string `json:"info_hash"`
		}
		if json.Unmarshal([]byte(*step.Send), &sent) == nil {
			m["info_hash"] = sent.Hash
		}
		if strings.Contains(reason, "JSON") || strings.Contains(reason, "Cannot create") {
			m["failure reason"] = "invalid JSON" // there it is what JavaScript says of it
		}
	}
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
