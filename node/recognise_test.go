package node_test

import (
	"strings"
	"testing"

	"github.com/peerservers/peerserver/node/door/tracker"
	"github.com/peerservers/peerserver/node/door/wsrelay"
	"github.com/peerservers/peerserver/node/door/ywebrtc"
)

// At "/" a client's first message says which door it means. No message is of
// both y-webrtc and ws-relay, and none that names an action is of either; the
// tracker gets what is nobody's.
func TestRecognise(t *testing.T) {
	y, ws := ywebrtc.New(ywebrtc.Config{}), wsrelay.New(wsrelay.Config{})
	for first, want := range map[string]string{
		// As the libraries send them.
		`{"type":"subscribe","topics":["my-room","another room"]}`:                                           ywebrtc.Name,
		`{"type":"subscribe","topics":[]}`:                                                                   ywebrtc.Name,
		`{"type":"publish","topic":"my-room","data":{"type":"announce","from":"6e1f3c52-0000-4000-8000-1"}}`: ywebrtc.Name,
		`{"type":"publish","topic":"my-room","data":"c2VhbGVk"}`:                                             ywebrtc.Name,
		`{"type":"unsubscribe","topics":["my-room"]}`:                                                        ywebrtc.Name,
		`{"type":"ping"}`: ywebrtc.Name,
		`{"type":"subscribe","topic":"da39a3ee5e6b4b0d3255bfef95601890afd80709"}`:                                 wsrelay.Name,
		`{"type":"unsubscribe","topic":"da39a3ee5e6b4b0d3255bfef95601890afd80709"}`:                               wsrelay.Name,
		`{"type":"publish","topic":"da39","payload":"{\"peerId\":\"x\"}"}`:                                        wsrelay.Name,
		`{"action":"announce","info_hash":"aaaaaaaaaaaaaaaaaaaa","peer_id":"b","numwant":5,"offers":[]}`:          tracker.Name,
		`{"numwant":3,"info_hash":"aaaaaaaaaaaaaaaaaaaa","peer_id":"b","action":"announce","event":"started"}`:    tracker.Name,
		`{"action":"scrape","info_hash":["aaaaaaaaaaaaaaaaaaaa"]}`:                                                tracker.Name,
		`{"action":"announce","to_peer_id":"b","offer_id":"c","answer":{"type":"answer","sdp":"{\"topics\":1}"}}`: tracker.Name,
		// Words of one protocol in another's.
		`{"type":"subscribe","topics":["action"]}`:                                             ywebrtc.Name,
		`{"type":"publish","topic":"action","data":{"action":"announce","payload":1}}`:         ywebrtc.Name,
		`{"type":"publish","topic":"\"action\":","payload":{"action":"announce","topics":[]}}`: wsrelay.Name,
		`{"type":"subscribe","topic":"topics"}`:                                                wsrelay.Name,
		`{"type":"subscribe","topic":""}`:                                                      wsrelay.Name,
		`{"type":"publish","topic":"a","payload":null}`:                                        wsrelay.Name,
		`{"topic":"a","type":"subscribe","topics":["a"]}`:                                      ywebrtc.Name,
		`{"type":"publish","topic":"a","payload":1,"data":1}`:                                  wsrelay.Name,
		`{"action":"announce","type":"subscribe","topics":["a"]}`:                              tracker.Name,
		`{"type":"subscribe","topic":"a","action":null}`:                                       tracker.Name,
		`{"type":"ping","action":"announce"}`:                                                  tracker.Name,
		`{"\u0074ype":"subscr\u0069be","t\u006fpics":[]}`:                                      ywebrtc.Name,
		` { "type" : "subscribe" , "topic" : "a" } `:                                           wsrelay.Name,
		`{"type":"subscribe","topics":"no list, but meant for it"}`:                            ywebrtc.Name,
		// Nobody's.
		`{"type":"subscribe"}`:                        tracker.Name,
		`{"type":"subscribe","topic":["a"]}`:          tracker.Name,
		`{"type":"publish","topic":7,"data":1}`:       tracker.Name,
		`{"type":"publish"}`:                          tracker.Name,
		`{"topics":["a"]}`:                            tracker.Name,
		`{"type":["subscribe"],"topics":["a"]}`:       tracker.Name,
		`[{"type":"subscribe","topics":["a"]}]`:       tracker.Name,
		`{"type":"subscribe","topics":["a"]`:          tracker.Name,
		`{"type":"subscribe","topics":["a"]}x`:        tracker.Name,
		`{"type":"OFFER","payload":{}}`:               tracker.Name,
		`{"type":"join","room":"topics"}`:             tracker.Name,
		`{"Signal":{"receiver":"a","data":1}}`:        tracker.Name,
		"{\"type\":\"subscribe\",\"topic\":\"\xff\"}": tracker.Name,
		"":                               tracker.Name,
		"null":                           tracker.Name,
		`"ping"`:                         tracker.Name,
		"\x16\x03\x01\x02\x00":           tracker.Name,
		strings.Repeat(`{"type":`, 9000): tracker.Name,
	} {
		got := tracker.Name
		switch isY, isWS := y.Recognise([]byte(first)), ws.Recognise([]byte(first)); {
		case isY && isWS:
			got = "both"
		case isY:
			got = ywebrtc.Name
		case isWS:
			got = wsrelay.Name
		}
		if got != want {
			t.Errorf("%.200q is for %s, want %s", first, got, want)
		}
	}
}
