package tracker

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// messages are what clients send, and what they should not.
var messages = []string{
	`{"action":"announce","info_hash":"aaaaaaaaaaaaaaaaaaaa","peer_id":"bbbbbbbbbbbbbbbbbbbb","numwant":5,"uploaded":0,"downloaded":0,"left":null,"event":"started","offers":[{"offer":{"type":"offer","sdp":"v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\n"},"offer_id":"cccccccccccccccccccc"},{"offer":{"type":"offer","sdp":"x"},"offer_id":"ÿ\u0000\u00ff\n\\\"éaaaaaaaaaaaaa"}]}`,
	`{"action":"announce","info_hash":"aaaaaaaaaaaaaaaaaaaa","peer_id":"bbbbbbbbbbbbbbbbbbbb","to_peer_id":"dddddddddddddddddddd","offer_id":"cccccccccccccccccccc","answer":{"type":"answer","sdp":"v=0"}}`,
	`{"action":"scrape","info_hash":["aaaaaaaaaaaaaaaaaaaa","bbbbbbbbbbbbbbbbbbbb"]}`,
	` { "action" : "scrape" , "info_hash" : "aaaaaaaaaaaaaaaaaaaa" } `,
	`{"action":"announce","action":"scrape"}`,
	`{"\u0061ction":"announce","Action":"scrape"}`,
	`{"offers":{}}`, `{"offers":[]}`, `{"offers":[1]}`, `{"offers":[{}]}`, `{"offers":[{"offer":1,"offer":2}]}`, `{"offers":[null]}`,
	`{"offers":[{"offer":[[[]]],"offer_id":""}],"offers":[]}`,
	`{"a":-0.5e+10,"b":[1,2,{"c":true}],"d":false}`,
	`{"a":01}`, `{"a":1.}`, `{"a":-}`, `{"a":1e}`, `{"a":.5}`, `{"a":+1}`, `{"a":0x1}`, `{"a":NaN}`,
	`{"a":"\x"}`, `{"a":"\u12"}`, `{"a":"\ud800"}`, "{\"a\":\"\x01\"}", "{\"a\":\"\xff\"}", "{\"a\":\"\xc0\x80\"}", "{\"a\":\"\xed\xa0\x80\"}",
	`{`, `{}`, `[]`, `null`, `1`, `""`, ``, ` `, `{"a"}`, `{"a":}`, `{"a":1,}`, `{,}`, `{"a":1}x`, `{"a":1}}`, `{"a":[1,]}`, `{"a":{"b":1,}}`, `{"a":[1}}`, `{"a":{1:2}}`,
	`{"answer":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`,
	`{"answer":` + strings.Repeat("[", 65) + strings.Repeat("]", 65) + `}`,
	`{"answer":` + strings.Repeat(`{"a":`, 60) + "1" + strings.Repeat("}", 60) + `}`,
	`{"offers":[` + strings.Repeat("{},", 100) + `{}]}`,
}

// compare fails when the scanner accepts a message and does not say the same
// of it as encoding/json does.
func compare(t *testing.T, b []byte) (scanned bool) {
	t.Helper()
	var fast, slow fields
	if !quick(b, &fast) {
		return false
	}
	if !parse(b, &slow) {
		t.Fatalf("scan accepts %q, parse does not", b)
	}
	if !fast.equal(&slow) {
		t.Fatalf("of %q\nscan says  %s\nparse says %s", b, fast.String(), slow.String())
	}
	return true
}

func (f *fields) equal(g *fields) bool {
	same := f.list == g.list && f.bad == g.bad && slices.EqualFunc(f.offers, g.offers, func(o, p rawOffer) bool {
		return bytes.Equal(o.id, p.id) && bytes.Equal(o.offer, p.offer) && (o.id == nil) == (p.id == nil) && (o.offer == nil) == (p.offer == nil)
	})
	for _, v := range [][2][]byte{
		{f.action, g.action},
		{f.infoHash, g.infoHash},
		{f.peerID, g.peerID},
		{f.toPeerID, g.toPeerID},
		{f.offerID, g.offerID},
		{f.left, g.left},
		{f.event, g.event},
		{f.answer, g.answer},
	} {
		same = same && bytes.Equal(v[0], v[1]) && (v[0] == nil) == (v[1] == nil)
	}
	return same
}

func (f *fields) String() string {
	s := fmt.Sprintf("%q", [][]byte{f.action, f.infoHash, f.peerID, f.toPeerID, f.offerID, f.left, f.event, f.answer})
	for _, o := range f.offers {
		s += fmt.Sprintf(" %q:%q", o.id, o.offer)
	}
	return s + fmt.Sprint(" ", f.list, f.bad)
}

func TestScanAgreesWithParse(t *testing.T) {
	scanned := 0
	for _, m := range messages {
		if compare(t, []byte(m)) {
			scanned++
		}
		// Cut anywhere it is not JSON any more, whoever looks at it.
		for i := range m {
			compare(t, []byte(m[:i]))
		}
	}
	if scanned < 10 {
		t.Errorf("the scanner accepts %d of the messages: it gives up on usual ones", scanned)
	}
}

// The scanner must know what clients really send, or it is of no use.
func TestScanTakesWhatClientsSend(t *testing.T) {
	for _, m := range messages[:4] {
		if !quick([]byte(m), new(fields)) {
			t.Errorf("quick gives up on %s", m)
		}
	}
}

func TestOffersAboveTheLimitAreForgotten(t *testing.T) {
	m := []byte(`{"offers":[` + strings.Repeat(`{"offer":1},`, 9999) + `{"offer":2}]}`)
	for name, split := range map[string]func([]byte, *fields) bool{"scan": quick, "parse": parse} {
		var f fields
		if !split(m, &f) || len(f.offers) != 82 {
			t.Errorf("%s keeps %d offers, want 82", name, len(f.offers))
		}
	}
}

func FuzzScan(f *testing.F) {
	for _, m := range messages {
		f.Add([]byte(m))
	}
	f.Fuzz(func(t *testing.T, b []byte) { compare(t, b) })
}

func FuzzBinary(f *testing.F) {
	f.Add([]byte("\x00\xff\"\\\n\r\t\b\f\x1f\x7fabc"))
	f.Fuzz(func(t *testing.T, b []byte) {
		text := appendString(nil, b)
		var s string
		if err := json.Unmarshal(text, &s); err != nil {
			t.Fatalf("%q is no JSON: %v", text, err)
		}
		chars := make([]rune, len(b))
		for i, c := range b {
			chars[i] = rune(c)
		}
		if s != string(chars) {
			t.Fatalf("%x is written as %q", b, s)
		}
		if back, ok := appendBytes(nil, text); !ok || !bytes.Equal(back, b) {
			t.Fatalf("%x comes back as %x, %v", b, back, ok)
		}
		// Escaped in full it is the same.
		var escaped strings.Builder
		escaped.WriteByte('"')
		for _, c := range b {
			fmt.Fprintf(&escaped, `\u00%02X`, c)
		}
		escaped.WriteByte('"')
		if back, ok := appendBytes(nil, []byte(escaped.String())); !ok || !bytes.Equal(back, b) {
			t.Fatalf("%s comes back as %x, %v", escaped.String(), back, ok)
		}
	})
}

func TestBinaryRefusesOtherCharacters(t *testing.T) {
	for _, s := range []string{`"Ā"`, `"\u0100"`, `"日"`, `"😀"`, `"\ud83d\ude00"`, `1`, `null`, `"`, ``, `[]`} {
		if b, ok := appendBytes(nil, []byte(s)); ok {
			t.Errorf("%s is taken for the bytes %x", s, b)
		}
	}
}

func BenchmarkScan(b *testing.B) {
	sdp := strings.Repeat(`a=candidate:1 1 udp 2113937151 192.168.1.1 54321 typ host\r\n`, 18)
	var offers []string
	for i := range 5 {
		offers = append(offers, fmt.Sprintf(`{"offer":{"type":"offer","sdp":"%s"},"offer_id":"%020d"}`, sdp, i))
	}
	for name, m := range map[string]string{
		"announce": `{"numwant":5,"uploaded":0,"downloaded":0,"left":0,"event":"started","action":"announce","info_hash":"` + "ÿéa\\u0000bcdefghijklmnop" + `","peer_id":"bbbbbbbbbbbbbbbbbbbb","offers":[` + strings.Join(offers, ",") + `]}`,
		"answer":   `{"action":"announce","info_hash":"aaaaaaaaaaaaaaaaaaaa","peer_id":"bbbbbbbbbbbbbbbbbbbb","to_peer_id":"cccccccccccccccccccc","answer":{"type":"answer","sdp":"` + sdp + `"},"offer_id":"dddddddddddddddddddd"}`,
	} {
		for way, split := range map[string]func([]byte, *fields) bool{"scan": quick, "json": parse} {
			b.Run(name+"/"+way, func(b *testing.B) {
				var f fields
				msg := []byte(m)
				b.SetBytes(int64(len(m)))
				b.ReportAllocs()
				for b.Loop() {
					if !split(msg, &f) {
						b.Fatal("not accepted")
					}
				}
			})
		}
	}
}
