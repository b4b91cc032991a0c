package protocol

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// The files in vectors are read by these tests and by those of the TypeScript
// client. After a change to the cases below, write them anew with
//
//	go test ./protocol -run TestVectors -update
//
// and look at the diff: a line that changes is a change of the wire.
var update = flag.Bool("update", false, "write the test vectors anew")

// checkVectors compares what the code makes of the cases with the file.
func checkVectors[T any](t *testing.T, name string, cases []T) {
	t.Helper()
	path := filepath.Join("vectors", name+".json")
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(cases); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	stored, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var want []T
	if err := json.Unmarshal(stored, &want); err != nil {
		t.Fatal(err)
	}
	if len(cases) != len(want) {
		t.Errorf("%s: %d cases, the file has %d", path, len(cases), len(want))
	}
	for i := range min(len(cases), len(want)) {
		if !reflect.DeepEqual(cases[i], want[i]) {
			t.Errorf("%s, case %d: now\n%+v\nin the file\n%+v", path, i, cases[i], want[i])
		}
	}
}

// testKey is the key of the seed that is 32 times b.
func testKey(b byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, ed25519.SeedSize))
}

func testNode(b byte) NodeID { return NodeID(testKey(b).Public().(ed25519.PublicKey)) }

func codeOf(err error) string {
	var e *Error
	switch {
	case err == nil:
		return CodeOK.String()
	case errors.As(err, &e):
		return e.Code.String()
	}
	return err.Error()
}

type appVector struct {
	Door   string `json:"door"`
	Name   string `json:"name"`   // hex
	Secret string `json:"secret"` // hex
	App    string `json:"app"`    // hex
}

func TestVectorsApps(t *testing.T) {
	infohash, _ := hex.DecodeString("0123456789abcdef0123456789abcdef01234567")
	var cases []appVector
	for _, c := range []struct {
		door         string
		name, secret []byte
	}{
		{"mesh", nil, nil},
		{"tracker", infohash, nil},
		{"tracker", infohash, []byte("a secret")},
		{"tracker", infohash, bytes.Repeat([]byte{7}, 100)}, // longer than a block of SHA-256
		{"native", []byte("chess"), nil},
		{"native", []byte("chess"), []byte{0}},
		{"native", []byte("Schach spielen ♞"), nil},
		{"native", []byte("\x00chess"), nil}, // not the same as door "native\x00" would be
		{"nativ", []byte("echess"), nil},
		{"peerjs", []byte("peerjs"), nil},
	} {
		cases = append(cases, appVector{
			Door: c.door, Name: hex.EncodeToString(c.name), Secret: hex.EncodeToString(c.secret),
			App: App(c.door, c.name, c.secret).String(),
		})
	}
	checkVectors(t, "apps", cases)
	seen := map[string]bool{}
	for _, c := range cases {
		if seen[c.App] {
			t.Errorf("%s is the id of two apps", c.App)
		}
		seen[c.App] = true
	}
}

type tagVector struct {
	App       string `json:"app"`
	Handshake string `json:"handshake"` // hex
	Role      Role   `json:"role"`
	Tag       string `json:"tag"` // hex
}

func TestVectorsTags(t *testing.T) {
	var cases []tagVector
	for _, app := range []AppID{MeshApp, App("native", []byte("chess"), nil)} {
		for _, b := range []byte{0, 0xab} {
			for _, role := range []Role{Dialler, Responder} {
				h := bytes.Repeat([]byte{b}, 32)
				tag := app.Tag(h, role)
				cases = append(cases, tagVector{app.String(), hex.EncodeToString(h), role, hex.EncodeToString(tag[:])})
			}
		}
	}
	checkVectors(t, "tags", cases)
}

type memberVector struct {
	App  string `json:"app"`
	ID   string `json:"id"`   // hex
	Hash string `json:"hash"` // hex
}

func TestVectorsMembers(t *testing.T) {
	var cases []memberVector
	for _, app := range []AppID{MeshApp, App("native", []byte("chess"), nil)} {
		for _, id := range []string{"", "alice", "-TS0001-\x00\xff\xfe", strings.Repeat("x", MaxMemberID)} {
			h := app.MemberHash(id)
			cases = append(cases, memberVector{app.String(), hex.EncodeToString([]byte(id)), hex.EncodeToString(h.Bytes())})
			if back, ok := ParseMemberHash(h.Bytes()); !ok || back != h {
				t.Errorf("%x is read as %x", h.Bytes(), back)
			}
		}
	}
	checkVectors(t, "members", cases)
}

type nodeVector struct {
	Text string `json:"text"`
	Key  string `json:"key,omitempty"` // hex
	Code string `json:"code"`
}

func TestVectorsNodes(t *testing.T) {
	var cases []nodeVector
	all1 := NodeID(bytes.Repeat([]byte{0xff}, 32))
	for _, id := range []NodeID{{}, all1, testNode(1), testNode(2)} {
		cases = append(cases, nodeVector{Text: id.String()})
	}
	good := testNode(1).String()
	for _, text := range []string{
		"", "y", good[:51], good + "y", strings.ToUpper(good), good[:51] + "l", good[:51] + "2", // not of the alphabet
		good[:51] + "9",              // spare bits that are not zero
		good[:26] + "\n" + good[26:], // some decoders skip line ends
		" " + good[1:], good[:44] + "========", hex.EncodeToString(make([]byte, 26)),
	} {
		cases = append(cases, nodeVector{Text: text})
	}
	for i, c := range cases {
		id, err := ParseNodeID(c.Text)
		cases[i].Code = codeOf(err)
		if err == nil {
			cases[i].Key = hex.EncodeToString(id[:])
		}
		if wantOK := i < 4; (err == nil) != wantOK {
			t.Errorf("%q: %v", c.Text, err)
		}
	}
	checkVectors(t, "nodes", cases)
}

type urlVector struct {
	URL  string `json:"url"`
	Same string `json:"same,omitempty"` // its one spelling
	Code string `json:"code"`
}

// urlCases have the code that is wanted.
func urlCases() []urlVector {
	cases := []urlVector{
		{URL: "wss://a.example", Same: "wss://a.example:443"},
		{URL: "wss://a.example:443", Same: "wss://a.example:443"},
		{URL: "wss://A.Example:8787", Same: "wss://a.example:8787"},
		{URL: "wss://xn--bcher-kva.example:8787", Same: "wss://xn--bcher-kva.example:8787"},
		{URL: "wss://localhost:8787", Same: "wss://localhost:8787"},
		{URL: "wss://my_node.example:1024", Same: "wss://my_node.example:1024"},
		{URL: "wss://1a.2b.c3:65535", Same: "wss://1a.2b.c3:65535"},
		{URL: "wss://" + strings.Repeat("a", 63) + ".example:80", Same: "wss://" + strings.Repeat("a", 63) + ".example:80"},
		{URL: "wss://192.0.2.1", Same: "wss://192.0.2.1:443"},
		{URL: "ws://192.0.2.1:8787", Same: "ws://192.0.2.1:8787"},
		{URL: "ws://192.0.2.1:80", Same: "ws://192.0.2.1:80"},
		{URL: "ws://[2001:db8::1]:8787", Same: "ws://[2001:db8::1]:8787"},
		{URL: "ws://[2001:DB8:0:0::0:1]:8787", Same: "ws://[2001:db8::1]:8787"},
		{URL: "wss://[2001:db8::1]", Same: "wss://[2001:db8::1]:443"},
		{URL: "ws://[::ffff:192.0.2.1]:8787", Same: "ws://192.0.2.1:8787"},
		{URL: "ws://[::ffff:c000:201]:8787", Same: "ws://192.0.2.1:8787"},
	}
	for i := range cases {
		cases[i].Code = CodeOK.String()
	}
	for _, s := range []string{
		"", "wss://", "ws://", "wss:", "://", "a.example", "//a.example", "http://a.example", "https://a.example:443",
		"wss:/a.example", "wss:a.example", "wss:///", " wss://a.example", "wss://a.example ", "WSS://a.example",
		"wss://a.example/", "wss://a.example/link", "wss://a.example?", "wss://a.example?x", "wss://a.example#", "wss://a.example#x",
		"wss://user@a.example", "wss://user:pass@a.example", "wss://@a.example", "wss://a.example@b.example",
		"wss://a.example:", "wss://a.example:0", "wss://a.example:65536", "wss://a.example:-1", "wss://a.example:+80",
		"wss://a.example:0443", "wss://a.example:8787:8787", "wss://a.example:x", "wss://a.example:80 ", "wss://a.example:99999999999999999999",
		"wss://a..example", "wss://.example", "wss://a.example.", "wss://.", "wss://a b.example", "wss://a%20b.example", "wss://a%2eexample",
		"wss://bücher.example", "wss://\u212a.example", "wss://a\u3002example", "wss://\uff41.example", "wss://a\x00.example", "wss://a\n.example", "wss://a\\b", "wss://\xff.example", "wss://a.example\t",
		"wss://a,b.example", "wss://*.example", "wss://" + strings.Repeat("a", 64) + ".example", "wss://" + strings.Repeat("a.", 127) + "aa",
		"ws://a.example:8787", "ws://localhost:8787", "ws://192.0.2.1", "ws://[2001:db8::1]",
		"ws://192.0.2:8787", "wss://192.0.2", "wss://192.0.2.1.5", "wss://192.0.2.256", "wss://192.0.02.1", "wss://3221225985",
		"wss://0xc0000201", "wss://a.0x1", "wss://a.1", "wss://a.2b", "ws://0xc0.0.2.1:8787", // what browsers take for an IPv4 address
		"ws://2001:db8::1:8787", "wss://2001:db8::1", "wss://[]", "wss://[", "wss://]", "wss://[192.0.2.1]", "wss://[a.example]", "wss://[2001:db8::1",
		"wss://[2001:db8::1]x", "ws://[fe80::1%25eth0]:8787", "ws://[fe80::1%eth0]:8787", "wss://[2001:db8::1]:",
	} {
		cases = append(cases, urlVector{URL: s, Code: CodeMalformed.String()})
	}
	for _, s := range []string{"wss://a.example:22", "wss://a.example:1", "wss://a.example:1023", "ws://192.0.2.1:25", "ws://[2001:db8::1]:81"} {
		cases = append(cases, urlVector{URL: s, Code: CodeRefused.String()})
	}
	return cases
}

func TestVectorsURLs(t *testing.T) {
	cases := urlCases()
	for _, c := range cases {
		u, err := ParseLinkURL(c.URL)
		if codeOf(err) != c.Code || (err == nil && u.String() != c.Same) {
			t.Errorf("%q is %q, %v; want %q, %s", c.URL, u, err, c.Same, c.Code)
		}
	}
	// JSON is UTF-8.
	cases = slices.DeleteFunc(cases, func(c urlVector) bool { return strings.Contains(c.URL, "\xff") })
	checkVectors(t, "urls", cases)
}

type recordVector struct {
	Name   string      `json:"name"`
	Now    int64       `json:"now"`            // unix ms
	Want   string      `json:"want,omitempty"` // the node that it has to be of, as NodeID.String; empty: any
	Record recordBytes `json:"record"`
	Code   string      `json:"code"`
	Says   *recordSays `json:"says,omitempty"` // when accepted
}

// recordBytes are the fields of a SignedRecord in hex, seq in decimal.
type recordBytes struct {
	Key       string `json:"key"`
	Seq       string `json:"seq"`
	Value     string `json:"value"`
	Signature string `json:"signature"`
}

func (r recordBytes) signed(t testing.TB) *SignedRecord {
	t.Helper()
	s := new(SignedRecord)
	var errs [4]error
	s.Key, errs[0] = hex.DecodeString(r.Key)
	s.Value, errs[1] = hex.DecodeString(r.Value)
	s.Signature, errs[2] = hex.DecodeString(r.Signature)
	s.Seq, errs[3] = strconv.ParseInt(r.Seq, 10, 64)
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	return s
}

type recordSays struct {
	Node     string   `json:"node"`
	TTL      int      `json:"ttl"` // seconds
	URLs     []string `json:"urls"`
	STUNPort uint16   `json:"stunPort"`
	TURNPort uint16   `json:"turnPort"`
	Load     int      `json:"load"`
}

// sign signs any value.
func sign(key ed25519.PrivateKey, seq int64, value []byte) *SignedRecord {
	s := &SignedRecord{Key: key.Public().(ed25519.PublicKey), Seq: seq, Value: value}
	s.Signature = ed25519.Sign(key, s.signedBytes())
	return s
}

const vectorNow = 1_800_000_000_000

// recordCases have the code that is wanted.
func recordCases() []recordVector {
	var cases []recordVector
	add := func(name string, code Code, want string, now int64, s *SignedRecord) {
		cases = append(cases, recordVector{
			Name: name, Now: now, Want: want, Code: code.String(),
			Record: recordBytes{
				Key: hex.EncodeToString(s.Key), Seq: strconv.FormatInt(s.Seq, 10),
				Value: hex.EncodeToString(s.Value), Signature: hex.EncodeToString(s.Signature),
			},
		})
	}
	key, me := testKey(1), testNode(1).String()
	good := func() *RecordBody {
		return &RecordBody{Version: Version, Ttl: 7200, Urls: []string{"wss://a.example", "ws://192.0.2.1:8787"}, StunPort: 3478, TurnPort: 3478, Load: 1}
	}
	body := func(change func(b *RecordBody)) []byte {
		b := good()
		change(b)
		raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(b)
		if err != nil {
			panic(err)
		}
		return raw
	}
	value := func(change func(b *RecordBody)) []byte { return bencodeString(body(change)) }
	same := func(*RecordBody) {}
	ms := func(d time.Duration) int64 { return vectorNow + d.Milliseconds() }
	record := func() *SignedRecord { return sign(key, vectorNow, value(same)) }

	add("a record", CodeOK, me, vectorNow, record())
	add("of anybody", CodeOK, "", vectorNow, record())
	add("at the end of its time", CodeOK, me, ms(RecordTTL), record())
	add("as far ahead as clocks may be", CodeOK, me, vectorNow, sign(key, ms(RecordAhead), value(same)))
	add("without addresses", CodeOK, me, vectorNow, sign(key, vectorNow, value(func(b *RecordBody) { b.Urls = nil })))
	add("with as little as possible", CodeOK, me, vectorNow, sign(key, 1, bencodeString([]byte{8, 1, 16, 1}))) // version 1, ttl 1
	cases[len(cases)-1].Now = 1001
	add("with a field of a later version", CodeOK, me, vectorNow,
		sign(key, vectorNow, bencodeString(protowire.AppendVarint(protowire.AppendTag(body(same), 99, protowire.VarintType), 7))))
	add("as large as can be", CodeOK, me, vectorNow, sign(key, vectorNow, value(func(b *RecordBody) { b.Urls = fill(true) })))

	add("too large", CodeMalformed, me, vectorNow, sign(key, vectorNow, value(func(b *RecordBody) { b.Urls = fill(false) })))
	add("of another node than asked for", CodeMalformed, testNode(2).String(), vectorNow, record())
	cut := record()
	cut.Key = cut.Key[:31]
	add("with a short key", CodeMalformed, "", vectorNow, cut)
	cut = record()
	cut.Signature = cut.Signature[:63]
	add("with a short signature", CodeMalformed, me, vectorNow, cut)
	add("empty", CodeMalformed, "", vectorNow, &SignedRecord{})

	add("a millisecond too far ahead", CodeStale, me, vectorNow, sign(key, ms(RecordAhead)+1, value(same)))
	add("of the end of time", CodeStale, me, vectorNow, sign(key, 1<<63-1, value(same)))
	add("with sequence zero", CodeStale, me, vectorNow, sign(key, 0, value(same)))
	add("with a negative sequence", CodeStale, me, vectorNow, sign(key, -1, value(same)))
	add("a millisecond after its time", CodeStale, me, ms(RecordTTL)+1, record())
	add("for no time", CodeStale, me, vectorNow, sign(key, vectorNow, value(func(b *RecordBody) { b.Ttl = 0 })))
	add("for too long", CodeStale, me, vectorNow, sign(key, vectorNow, value(func(b *RecordBody) { b.Ttl = 7201 })))
	add("for ever", CodeStale, me, vectorNow, sign(key, vectorNow, value(func(b *RecordBody) { b.Ttl = 1<<32 - 1 })))

	for name, change := range sorted(map[string]func(s *SignedRecord){
		"with another sequence": func(s *SignedRecord) { s.Seq-- },
		"with another value":    func(s *SignedRecord) { s.Value = value(func(b *RecordBody) { b.Load = 2 }) },
		"with another key":      func(s *SignedRecord) { s.Key = testKey(2).Public().(ed25519.PublicKey) },
		"with one bit changed":  func(s *SignedRecord) { s.Signature[0] ^= 1 },
		"with a signature of another form": func(s *SignedRecord) { // S + L, which some verifiers take
			addOrder(s.Signature[32:])
		},
		"with another salt": func(s *SignedRecord) {
			b := bytes.Replace(s.signedBytes(), []byte("peerserver1"), []byte("peerserver2"), 1)
			s.Signature = ed25519.Sign(key, b)
		},
		"with the signature of the value alone": func(s *SignedRecord) { s.Signature = ed25519.Sign(key, s.Value) },
		"expired and changed":                   func(s *SignedRecord) { s.Seq = vectorNow - 3*RecordTTL.Milliseconds() },
	}) {
		s := record()
		change(s)
		add(name, CodeSignature, "", vectorNow, s)
	}

	raw := body(same)
	for name, v := range sorted(map[string][]byte{
		"value: nothing":                {},
		"value: not bencoded":           raw,
		"value: no length":              append([]byte(":"), raw...),
		"value: a length too short":     append(strconv.AppendInt(nil, int64(len(raw)-1), 10), append([]byte(":"), raw...)...),
		"value: a length too long":      append(strconv.AppendInt(nil, int64(len(raw)+1), 10), append([]byte(":"), raw...)...),
		"value: a length with a zero":   append([]byte("0"), bencodeString(raw)...),
		"value: a length with a plus":   append([]byte("+"), bencodeString(raw)...),
		"value: a length with a space":  append([]byte(" "), bencodeString(raw)...),
		"value: a negative length":      append([]byte("-"), bencodeString(raw)...),
		"value: a list":                 append(append([]byte("l"), bencodeString(raw)...), 'e'),
		"value: an integer":             []byte("i1e"),
		"body: cut":                     bencodeString(raw[:len(raw)-1]),
		"body: not protobuf":            bencodeString([]byte("\xff\xff\xff")),
		"body: an address not UTF-8":    bencodeString(append(body(same), 26, 3, 'a', 0xff, 'b')),
		"body: an address of nobody":    value(func(b *RecordBody) { b.Urls = []string{""} }),
		"body: an address in the clear": value(func(b *RecordBody) { b.Urls = []string{"wss://a.example", "ws://a.example:8787"} }),
		"body: an address with a path":  value(func(b *RecordBody) { b.Urls = []string{"wss://a.example/link"} }),
		"body: five addresses":          value(func(b *RecordBody) { b.Urls = slices.Repeat([]string{"wss://a.example"}, 5) }),
		"body: a STUN port too high":    value(func(b *RecordBody) { b.StunPort = 65536 }),
		"body: a TURN port too high":    value(func(b *RecordBody) { b.TurnPort = 1<<32 - 1 }),
		"body: a load too high":         value(func(b *RecordBody) { b.Load = 4 }),
	}) {
		add(name, CodeMalformed, me, vectorNow, sign(key, vectorNow, v))
	}
	add("body: an address at a mail server", CodeRefused, me, vectorNow,
		sign(key, vectorNow, value(func(b *RecordBody) { b.Urls = []string{"ws://192.0.2.1:25"} })))
	add("body: empty", CodeVersion, me, vectorNow, sign(key, vectorNow, []byte("0:")))
	add("body: of version 2", CodeVersion, me, vectorNow, sign(key, vectorNow, value(func(b *RecordBody) { b.Version = 2; b.Load = 9 })))
	return cases
}

// fill is URLs that make a record of MaxRecord bytes, or of one more.
func fill(fits bool) []string {
	last := 192
	if fits {
		last--
	}
	var urls []string
	for _, n := range []int{192, 192, 192, last} {
		host := bytes.Repeat([]byte("a"), n-len("wss://"))
		for i := 59; i < len(host); i += 60 {
			host[i] = '.'
		}
		urls = append(urls, "wss://"+string(host))
	}
	return urls
}

// addOrder adds the order of the curve to a little-endian number.
func addOrder(s []byte) {
	order, _ := hex.DecodeString("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010")
	carry := 0
	for i := range s {
		carry += int(s[i]) + int(order[i])
		s[i], carry = byte(carry), carry>>8
	}
}

// sorted goes through a map in the order of its keys.
func sorted[V any](m map[string]V) iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			if !yield(k, m[k]) {
				return
			}
		}
	}
}

func TestVectorsRecords(t *testing.T) {
	cases := recordCases()
	for i, c := range cases {
		var want NodeID
		if c.Want != "" {
			var err error
			if want, err = ParseNodeID(c.Want); err != nil {
				t.Fatal(err)
			}
		}
		s := c.Record.signed(t)
		r, err := s.Verify(want, time.UnixMilli(c.Now))
		if codeOf(err) != c.Code {
			t.Errorf("%s: %s (%v), want %s", c.Name, codeOf(err), err, c.Code)
		}
		if err != nil {
			continue
		}
		if r.Seq != s.Seq || r.Signed != s {
			t.Errorf("%s: sequence %d, want %d", c.Name, r.Seq, s.Seq)
		}
		cases[i].Says = &recordSays{
			Node: r.Node.String(), TTL: int(r.TTL / time.Second), URLs: slices.Concat([]string{}, r.URLs),
			STUNPort: r.STUNPort, TURNPort: r.TURNPort, Load: r.Load,
		}
	}
	checkVectors(t, "records", cases)
}
