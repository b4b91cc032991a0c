package peerjs

import (
	"encoding/json"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/peerservers/peerserver/protocol"
)

// What the client library checks.
var libraryID = regexp.MustCompile(`^[A-Za-z0-9]+(?:[ _-][A-Za-z0-9]+)*$`)

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		``, ` `, `null`, `{}`, `[]`, `5`, `{"type":"OFFER"}`, `{"type":"OFFER","dst":"bob","payload":{"a":[1,"}",{}]}}`,
		" {\t\"type\" :\n\"\\u0041NSWER\" , \"dst\":\"\\\"\\\\\" , \"payload\" : -1.5e7 }\r", `{"dst":"a","dst":5,"type":"LEAVE","type":"EXPIRE"}`,
		`{"type":"CANDIDATE","payload":"\"}","x":[[],{"":""}]}`, `{"type":["OFFER"]}`, `{"type":"OFFER","payload":true}`, "{\"type\":\"OFFER\",\"payload\":\"\xff\"}",
		`{"\u0064st":"\ud800","type":"HEARTBEAT"}`, `{"type":"OFFER"}{}`, strings.Repeat(`[`, 20_000),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, ok := parse(b)
		var fields map[string]json.RawMessage
		if !utf8.Valid(b) || json.Unmarshal(b, &fields) != nil {
			if ok {
				t.Fatalf("%q is taken", b)
			}
			return
		}
		var name, dst string
		if json.Unmarshal(fields["type"], &name) != nil {
			name = ""
		}
		if json.Unmarshal(fields["dst"], &dst) != nil {
			dst = ""
		}
		known := name == "OFFER" || name == "ANSWER" || name == "CANDIDATE" || name == "LEAVE" || name == "EXPIRE" || name == "HEARTBEAT"
		if ok != known {
			t.Fatalf("%q: ok is %v", b, ok)
		}
		if ok && (m.kind.String() != name || m.dst != dst || string(m.rawDst) != string(fields["dst"]) || string(m.payload) != string(fields["payload"])) {
			t.Fatalf("%q is read as %v to %q with %q", b, m.kind, m.dst, m.payload)
		}
	})
}

// What another node sends is JSON for the client, whatever it is, or nothing.
func FuzzReadWire(f *testing.F) {
	f.Add([]byte("\x01{}"), "bob")
	f.Add([]byte("\x05"), "a b")
	f.Add([]byte("\x06{}"), "")
	f.Add([]byte("\x02\"\xff\""), "bob")
	f.Add([]byte("\x03{\"a\":1},\"src\":\"x\""), "\"")
	f.Fuzz(func(t *testing.T, b []byte, from string) {
		m, ok := readWire(b, true)
		if !ok || !validID(from) {
			return
		}
		frame := appendFrame(nil, m.kind, quote(from), quote("me"), m.payload)
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(frame, &fields); err != nil || !utf8.Valid(frame) || string(fields["src"]) != `"`+from+`"` {
			t.Fatalf("%q makes %q: %v", b, frame, err)
		}
	})
}

// A query that Go's parser takes is read in the same way, but for the last of
// two parameters; one that it does not take is read as browsers do.
func FuzzQuery(f *testing.F) {
	for _, q := range []string{"", "key=a&id=b&token=c", "key=%41%20+&id&=&token=%", "%6bey=a&key=b", "token=a;b&id=50%&key=%zz%4"} {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, q string) {
		p := parseQuery(q)
		values, err := url.ParseQuery(q)
		if err != nil {
			return
		}
		for name, got := range map[string]string{"key": p.key, "id": p.id, "token": p.token} {
			if all := append([]string{""}, values[name]...); got != all[len(all)-1] {
				t.Fatalf("%q: %s is %q, want %q", q, name, got, all)
			}
		}
	})
}

func TestQueriesAsBrowsersReadThem(t *testing.T) {
	for query, want := range map[string]parameters{
		"key=k&id=a+b%20c&token=t": {"k", "a b c", "t"},
		"key=a;b&id=50%&token=%zz": {"a;b", "50%", "%zz"},
		"id=1&id=2&key==&token=&&": {"=", "2", ""},
		"ID=x&key=%C3%A9&token=%4": {"é", "", "%4"},
	} {
		if got := parseQuery(query); got != want {
			t.Errorf("%s is %+v, want %+v", query, got, want)
		}
	}
}

func FuzzValidID(f *testing.F) {
	for _, id := range []string{"", "a", "a b", "a  b", "-a", "a-", "a_b-c d", "é", "a\n", strings.Repeat("x", 64), strings.Repeat("x", 65)} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		if want := libraryID.MatchString(id) && len(id) <= protocol.MaxMemberID; validID(id) != want {
			t.Errorf("%q: %v", id, !want)
		}
	})
}

func TestIssuedIDs(t *testing.T) {
	tag := protocol.NodeTag{1, 2, 3, 255}
	seen := make(map[string]bool)
	for range 1000 {
		id := issueID(tag)
		if !validID(id) || tagOf(id) != tag || seen[id] {
			t.Fatalf("%q, of %v", id, tagOf(id))
		}
		seen[id] = true
	}
	for _, id := range []string{"", "bob", tag.String(), tag.String() + "-bob", "-" + issueID(tag), issueID(tag) + "x", strings.Replace(issueID(tag), "-", "_", 1)} {
		if tagOf(id) != (protocol.NodeTag{}) {
			t.Errorf("%q has the tag of a node", id)
		}
	}
}

// Nobody can use the proof of one token for another id or key, however they are
// put together.
func TestProofs(t *testing.T) {
	seen := make(map[[32]byte]parameters)
	for _, p := range []parameters{
		{"k", "i", "t"}, {"ki", "", "t"}, {"", "ki", "t"}, {"k", "it", ""}, {"k", "", "it"}, {"k", "i", "tt"}, {"k", "ii", "t"}, {"kk", "i", "t"},
	} {
		proof := p.proof()
		if other, ok := seen[proof]; ok {
			t.Errorf("%+v has the proof of %+v", p, other)
		}
		seen[proof] = p
	}
}

func TestSizesThatAreSaid(t *testing.T) {
	if protocol.MaxPayload-1 != 57343 || protocol.MaxMessage != 65536 || protocol.MaxMemberID != 64 {
		t.Error("msgLarge or msgID says something else")
	}
}
