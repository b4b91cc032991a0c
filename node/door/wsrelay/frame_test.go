package wsrelay

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/peerservers/peerserver/node/door/scan"
	"github.com/peerservers/peerserver/node/door/topics"
	"github.com/peerservers/peerserver/relay"
)

// What another node says is a payload reaches a client only if it is JSON.
func TestOfAnotherNode(t *testing.T) {
	d := New(Config{})
	for payload, want := range map[string]bool{
		`"x"`: true, "null": true, " [1]\n": true, `{"a":{}}`: true,
		"": false, "x": false, `"x`: false, `1}`: false, `1,"payload":2`: false, "\"\xff\"": false, `{"a":1}{"b":2}`: false,
	} {
		for range 2 { // the second time it may be known
			if got := d.accepts(nil, &relay.Event{Foreign: true, Payload: []byte(payload)}); got != want {
				t.Errorf("%q is accepted: %v", payload, got)
			}
		}
	}
}

// FuzzPublish: whatever a client publishes, a subscriber that wrote the topic
// the same way is told it and the payload, as they came.
func FuzzPublish(f *testing.F) {
	for _, in := range []string{
		`{"type":"publish","topic":"room","payload":"x"}`, ` { "payload" : [ 1.50,{}], "topic":"\u00e9","type":"publish" , "topic":"]}"}`, `{"type":"subscribe","topic":"\ud800"}`,
	} {
		f.Add([]byte(in))
	}
	d := New(Config{})
	f.Fuzz(func(t *testing.T, b []byte) {
		d.Recognise(b)
		var v [3]scan.Value
		if !scan.Pick(b, fieldNames, v[:]) || v[1].Times == 0 || v[2].Times == 0 {
			return
		}
		if _, ok := v[1].Text(); !ok {
			return
		}
		var in, out map[string]any
		if json.Unmarshal(b, &in) != nil {
			return // a number that Go has no room for
		}
		told := appendPublish(nil, &topics.Subscription{Quoted: string(v[1].JSON)}, &relay.Event{Payload: v[2].JSON})
		if err := json.Unmarshal(told, &out); err != nil {
			t.Fatalf("%q: %v", told, err)
		}
		if want := map[string]any{"topic": in["topic"], "payload": in["payload"]}; !reflect.DeepEqual(out, want) {
			t.Fatalf("%q became %q", b, told)
		}
	})
}
