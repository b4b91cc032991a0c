package ywebrtc

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/peerservers/peerserver/node/door/scan"
	"github.com/peerservers/peerserver/node/door/topics"
	"github.com/peerservers/peerserver/relay"
)

// What another node says is a publish reaches a client only if it is one, of
// that topic, and says nothing that is the server's to say.
func TestOfAnotherNode(t *testing.T) {
	d := New(Config{})
	sub := &topics.Subscription{Topic: "room"}
	for payload, want := range map[string]bool{
		`{"type":"publish","topic":"room","data":1}`:                  true,
		`{"topic":"\u0072oom","type":"publish"}`:                      true,
		`{"type":"publish","topic":"room","data":{"clients":1}}`:      true,
		`{"type":"publish","topic":"another","data":1}`:               false,
		`{"type":"publish","topic":["room"],"data":1}`:                false,
		`{"type":"pong","topic":"room"}`:                              false,
		`{"type":"publish","topic":"room","clients":1}`:               false,
		` {"type":"publish","topic":"room"}`:                          false,
		`{"type":"publish","topic":"room"} `:                          false,
		`{"type":"publish","topic":"room"`:                            false,
		`{"type":"publish","topic":"room"},{"type":"publish"}`:        false,
		"{\"type\":\"publish\",\"topic\":\"room\",\"data\":\"\xff\"}": false,
		`[]`: false, ``: false, `}`: false, `{}`: false, "\x00": false,
	} {
		for _, from := range []string{"?anonymous", "=named", ""} {
			for range 2 { // the second time it may be known
				e := relay.Event{Kind: relay.KindPublish, Foreign: true, From: from, Ref: make([]byte, 32), Payload: []byte(payload)}
				if got := d.accepts(sub, &e); got != want {
					t.Errorf("%q from %q is accepted: %v", payload, from, got)
				}
			}
		}
	}
}

// FuzzPublish: whatever a client publishes is passed on as the same object but
// for the number of clients, and other nodes take it.
func FuzzPublish(f *testing.F) {
	for _, in := range []string{
		`{"type":"publish","topic":"room","data":{"type":"announce","from":"x"}}`, ` { "clients" : {} , "topic":"room","type":"publish" }`,
		`{"type":"publish","topic":"r","clients":1,"data":"]}"}`, `{"type":"publish","topic":"\ud800","clients":[],"data":1.50}`, `{"type":"subscribe","topics":["a",1]}`,
	} {
		f.Add([]byte(in))
	}
	d := New(Config{})
	f.Fuzz(func(t *testing.T, b []byte) {
		d.Recognise(b)
		var v [fields]scan.Value
		if !scan.Pick(b, fieldNames, v[:]) || !v[fieldType].Is("publish") {
			return
		}
		id := clientOf(v[fieldData].JSON)
		topic, pass, ok := payload(b, v[:])
		if !ok {
			return
		}
		if len(id) > 64 || !isPublish(pass, topic) {
			t.Fatalf("%q is passed on as %q, of %q", b, pass, id)
		}
		var want, got map[string]any
		if json.Unmarshal(b, &want) != nil {
			return // a number that Go has no room for
		}
		out := appendPublish(nil, nil, &relay.Event{Payload: pass, Count: 12})
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatalf("%q: %v", out, err)
		}
		want["clients"] = 12.0
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%q became %q", b, out)
		}
	})
}
