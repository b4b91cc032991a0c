package protocol

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
)

var peerApp = App("peer", []byte("chess"), nil)

func testSeal(b byte) SealKey {
	k, err := NewSealKey([32]byte(bytes.Repeat([]byte{b}, 32)))
	if err != nil {
		panic(err)
	}
	return k
}

func testMember(b byte) Member {
	return Member{PeerID(testKey(b).Public().(ed25519.PublicKey)), Session(bytes.Repeat([]byte{b}, 8))}
}

type loginVector struct {
	Name      string `json:"name"`
	Node      string `json:"node"`
	Challenge string `json:"challenge"`
	Key       string `json:"key"`
	Nonce     string `json:"nonce"`
	URL       string `json:"url"`
	Signature string `json:"signature"`
	Code      string `json:"code"`
}

func TestLoginVectors(t *testing.T) {
	node := testNode(9)
	c := &Challenge{Version: Version, Node: node[:], Nonce: bytes.Repeat([]byte{7}, ChallengeNonce)}
	nonce, url := bytes.Repeat([]byte{8}, LoginNonce), "wss://node.example.org"
	var cases []loginVector
	add := func(name string, change func(c *Challenge, l *Login)) {
		c := proto.Clone(c).(*Challenge)
		l := SignLogin(testKey(1), c, nonce, url)
		change(c, l)
		id, err := l.Verify(c)
		if err == nil && id != testMember(1).Peer {
			t.Errorf("%s: it is %v", name, id)
		}
		cases = append(cases, loginVector{
			name, hex.EncodeToString(c.Node), hex.EncodeToString(c.Nonce), hex.EncodeToString(l.Key),
			hex.EncodeToString(l.Nonce), l.Url, hex.EncodeToString(l.Signature), codeOf(err),
		})
	}
	add("as it should be", func(*Challenge, *Login) {})
	add("taken to another node", func(c *Challenge, _ *Login) { other := testNode(10); c.Node = other[:] })
	add("of another connection", func(c *Challenge, _ *Login) { c.Nonce[0] ^= 1 })
	add("with another URL", func(_ *Challenge, l *Login) { l.Url = "wss://evil.example.org" })
	add("with another key", func(_ *Challenge, l *Login) { l.Key = testKey(2).Public().(ed25519.PublicKey) })
	add("with another nonce", func(_ *Challenge, l *Login) { l.Nonce = bytes.Repeat([]byte{9}, LoginNonce) })
	add("with a cut nonce", func(_ *Challenge, l *Login) { l.Nonce = l.Nonce[:4] })
	add("with a cut signature", func(_ *Challenge, l *Login) { l.Signature = l.Signature[:63] })
	add("with a URL that is too long", func(_ *Challenge, l *Login) { l.Url = strings.Repeat("x", MaxURL+1) })
	checkVectors(t, "logins", cases)
	if cases[0].Code != "ok" || slices.ContainsFunc(cases[1:], func(v loginVector) bool { return v.Code == "ok" }) {
		t.Errorf("codes: %+v", cases)
	}
}

type welcomeVector struct {
	Name      string `json:"name"`
	Node      string `json:"node"`
	Challenge string `json:"challenge"`
	Key       string `json:"key"`
	Nonce     string `json:"nonce"`
	Signature string `json:"signature"`
	Code      string `json:"code"`
}

func TestWelcomeVectors(t *testing.T) {
	node := testNode(9)
	c := &Challenge{Version: Version, Node: node[:], Nonce: bytes.Repeat([]byte{7}, ChallengeNonce)}
	l := SignLogin(testKey(1), c, bytes.Repeat([]byte{8}, LoginNonce), "wss://node.example.org")
	var cases []welcomeVector
	add := func(name string, change func(*Challenge, *Login, *Welcome)) {
		c, l := proto.Clone(c).(*Challenge), proto.Clone(l).(*Login)
		w := &Welcome{Signature: SignWelcome(testKey(9), c, l)}
		change(c, l, w)
		cases = append(cases, welcomeVector{
			name, hex.EncodeToString(c.Node), hex.EncodeToString(c.Nonce), hex.EncodeToString(l.Key),
			hex.EncodeToString(l.Nonce), hex.EncodeToString(w.Signature), codeOf(w.Verify(c, l)),
		})
	}
	add("as it should be", func(*Challenge, *Login, *Welcome) {})
	add("of another node", func(c *Challenge, _ *Login, _ *Welcome) { other := testNode(10); c.Node = other[:] })
	add("of another connection", func(c *Challenge, _ *Login, _ *Welcome) { c.Nonce[0] ^= 1 })
	add("for another peer", func(_ *Challenge, l *Login, _ *Welcome) { l.Key = testKey(2).Public().(ed25519.PublicKey) })
	add("for another login", func(_ *Challenge, l *Login, _ *Welcome) { l.Nonce[0] ^= 1 })
	add("without a signature", func(_ *Challenge, _ *Login, w *Welcome) { w.Signature = nil })
	add("with a node that is no key", func(c *Challenge, _ *Login, _ *Welcome) { c.Node = c.Node[:31] })
	checkVectors(t, "welcomes", cases)
	if cases[0].Code != "ok" || slices.ContainsFunc(cases[1:], func(v welcomeVector) bool { return v.Code == "ok" }) {
		t.Errorf("codes: %+v", cases)
	}
}

type presenceVector struct {
	Name      string `json:"name"`
	App       string `json:"app"`
	Key       string `json:"key"`
	Body      string `json:"body"`
	Signature string `json:"signature"`
	Session   string `json:"session"`
	Seal      string `json:"seal"`
	Title     string `json:"title"`
	Code      string `json:"code"`
}

func testPresence(b byte) *PeerPresence {
	return &PeerPresence{
		Member: testMember(b), Seal: testSeal(b).Public(), Issued: time.UnixMilli(1_790_000_000_000), TTL: time.Hour,
		Name: "Ada", Services: []string{"file"}, Metadata: []byte(`{"color":"blue"}`),
	}
}

func TestPresenceVectors(t *testing.T) {
	var cases []presenceVector
	add := func(name string, app AppID, s *SignedPresence) {
		p, err := s.Verify(app)
		v := presenceVector{Name: name, App: app.String(), Key: hex.EncodeToString(s.Key), Body: hex.EncodeToString(s.Body), Signature: hex.EncodeToString(s.Signature), Code: codeOf(err)}
		if err == nil {
			v.Session, v.Seal, v.Title = hex.EncodeToString(p.Member.Session[:]), hex.EncodeToString(p.Seal[:]), p.Name
		}
		cases = append(cases, v)
	}
	p := testPresence(1)
	if err := SignPresence(testKey(1), peerApp, p); err != nil {
		t.Fatal(err)
	}
	signed := func(change func(b *PresenceBody)) *SignedPresence {
		var b PresenceBody
		if err := proto.Unmarshal(p.Signed.Body, &b); err != nil {
			t.Fatal(err)
		}
		change(&b)
		body, err := proto.MarshalOptions{Deterministic: true}.Marshal(&b)
		if err != nil {
			t.Fatal(err)
		}
		return &SignedPresence{Key: p.Signed.Key, Body: body, Signature: ed25519.Sign(testKey(1), presenceBytes(body))}
	}
	forged := proto.Clone(p.Signed).(*SignedPresence)
	forged.Key = testKey(2).Public().(ed25519.PublicKey)
	add("as it should be", peerApp, p.Signed)
	add("of another app", App("peer", []byte("go"), nil), p.Signed)
	add("with another key", peerApp, forged)
	add("without a seal key", peerApp, signed(func(b *PresenceBody) { b.Seal = nil }))
	add("with a short session", peerApp, signed(func(b *PresenceBody) { b.Session = b.Session[:7] }))
	add("for ever", peerApp, signed(func(b *PresenceBody) { b.Ttl = 1 << 30 }))
	add("with a name that is too long", peerApp, signed(func(b *PresenceBody) { b.Name = strings.Repeat("x", MaxPeerName+1) }))
	add("with too much metadata", peerApp, signed(func(b *PresenceBody) { b.Metadata = make([]byte, MaxMetadata+1) }))
	add("with too many services", peerApp, signed(func(b *PresenceBody) { b.Services = make([]string, MaxServices+1) }))
	cut := proto.Clone(p.Signed).(*SignedPresence)
	cut.Body = cut.Body[:len(cut.Body)-1]
	add("cut", peerApp, cut)
	checkVectors(t, "presences", cases)
	if cases[0].Code != "ok" || slices.ContainsFunc(cases[1:], func(v presenceVector) bool { return v.Code == "ok" }) {
		t.Errorf("codes: %+v", cases)
	}
}

// sealedVector is what a receiver has and gets. SealKey is its private one.
type sealedVector struct {
	Name      string `json:"name"`
	App       string `json:"app"`
	To        string `json:"to"`
	SealKey   string `json:"sealKey"`
	Secret    string `json:"secret"`
	Body      string `json:"body"`
	Signature string `json:"signature"`
	From      string `json:"from"`
	Sequence  uint64 `json:"sequence"`
	Kind      int32  `json:"kind"`
	Plain     string `json:"plain"`
	Code      string `json:"code"`
}

// TestEnvelopeVectors opens what is in the file: sealing is random, so the file
// is made once, and what Go and TypeScript make of it has to agree.
func TestEnvelopeVectors(t *testing.T) {
	cases := sealedVectors(t, "envelopes", sealSome)
	codes := make(map[string]int)
	for _, v := range cases {
		e := &Envelope{Body: fromHex(t, v.Body), Signature: fromHex(t, v.Signature)}
		app := AppID(fromHex(t, v.App))
		to, err := ParseMember(fromHex(t, v.To))
		if err != nil {
			t.Fatal(err)
		}
		key, err := NewSealKey([32]byte(fromHex(t, v.SealKey)))
		if err != nil {
			t.Fatal(err)
		}
		h, plain, err := e.Open(app, to, key, SealSecret(app, []byte(v.Secret)))
		codes[codeOf(err)]++
		if codeOf(err) != v.Code {
			t.Errorf("%s: %v, want %s", v.Name, err, v.Code)
			continue
		}
		if err == nil && (string(plain) != v.Plain || hex.EncodeToString(h.From.Bytes()) != v.From || h.Sequence != v.Sequence || int32(h.Kind) != v.Kind) {
			t.Errorf("%s: %+v says %q", v.Name, h, plain)
		}
	}
	if codes["ok"] < 2 || codes["signature"] < 5 || codes["denied"] < 2 || codes["malformed"] < 2 {
		t.Errorf("cases by code: %v", codes)
	}
}

// sealedVectors reads a file of what was sealed once.
func sealedVectors[T any](t *testing.T, name string, seal func(*testing.T) []T) (cases []T) {
	t.Helper()
	path := filepath.Join("vectors", name+".json")
	if *update {
		b, err := json.MarshalIndent(seal(t), "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &cases); err != nil {
		t.Fatal(err)
	}
	return cases
}

func fromHex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func sealSome(t *testing.T) (cases []sealedVector) {
	from, to := testMember(1), testMember(2)
	h := &EnvelopeHeader{App: peerApp, From: from, To: to, Sequence: 5, Kind: EnvelopeBody_KIND_OFFER}
	plain := "v=0 fingerprint"
	seal := func(h *EnvelopeHeader, key ed25519.PrivateKey, secret string) *Envelope {
		e, err := h.Seal(key, testSeal(2).Public(), SealSecret(h.App, []byte(secret)), []byte(plain))
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	add := func(name string, e *Envelope, change func(v *sealedVector)) {
		v := sealedVector{
			Name: name, App: peerApp.String(), To: hex.EncodeToString(to.Bytes()), SealKey: strings.Repeat("02", 32),
			Body: hex.EncodeToString(e.Body), Signature: hex.EncodeToString(e.Signature), From: hex.EncodeToString(from.Bytes()),
			Sequence: 5, Kind: int32(h.Kind), Plain: plain, Code: "ok",
		}
		change(&v)
		if v.Code != "ok" {
			v.From, v.Sequence, v.Kind, v.Plain = "", 0, 0, ""
		}
		cases = append(cases, v)
	}
	is := func(code string) func(*sealedVector) { return func(v *sealedVector) { v.Code = code } }
	changed := func(key ed25519.PrivateKey, change func(b *EnvelopeBody)) *Envelope {
		var b EnvelopeBody
		if err := proto.Unmarshal(seal(h, testKey(1), "").Body, &b); err != nil {
			t.Fatal(err)
		}
		change(&b)
		body, err := proto.MarshalOptions{Deterministic: true}.Marshal(&b)
		if err != nil {
			t.Fatal(err)
		}
		return &Envelope{Body: body, Signature: ed25519.Sign(key, envelopeBytes(body))}
	}
	add("as it should be", seal(h, testKey(1), ""), is("ok"))
	add("with the app's secret", seal(h, testKey(1), "hunter2"), func(v *sealedVector) { v.Secret = "hunter2" })
	add("another secret", seal(h, testKey(1), "hunter2"), func(v *sealedVector) { v.Secret, v.Code = "hunter3", "signature" })
	add("a secret where there is none", seal(h, testKey(1), ""), func(v *sealedVector) { v.Secret, v.Code = "hunter2", "signature" })
	add("another seal key", seal(h, testKey(1), ""), func(v *sealedVector) { v.SealKey, v.Code = strings.Repeat("03", 32), "signature" })
	add("signed by another key", seal(h, testKey(3), ""), is("signature"))
	add("another app", seal(h, testKey(1), ""), func(v *sealedVector) { v.App, v.Code = App("peer", []byte("go"), nil).String(), "denied" })
	add("another receiver", seal(h, testKey(1), ""), func(v *sealedVector) { v.To, v.Code = hex.EncodeToString(testMember(3).Bytes()), "denied" })
	add("another sequence", changed(testKey(1), func(b *EnvelopeBody) { b.Sequence = 6 }), is("signature"))
	add("another kind", changed(testKey(1), func(b *EnvelopeBody) { b.Kind = EnvelopeBody_KIND_ANSWER }), is("signature"))
	all := *h
	all.Kind = EnvelopeBody_KIND_BROADCAST
	add("a broadcast to one member", seal(&all, testKey(1), ""), is("denied"))
	add("a changed seal, signed by who changed it", changed(testKey(3), func(b *EnvelopeBody) {
		b.From, b.Sealed[0] = testMember(3).Bytes(), b.Sealed[0]^1
	}), is("signature"))
	add("a changed seal", changed(testKey(1), func(b *EnvelopeBody) { b.Sealed[3] ^= 1 }), is("signature"))
	add("a cut seal", changed(testKey(1), func(b *EnvelopeBody) { b.Sealed = b.Sealed[:len(b.Sealed)-1] }), is("signature"))
	add("no sequence", changed(testKey(1), func(b *EnvelopeBody) { b.Sequence = 0 }), is("malformed"))
	add("no key", changed(testKey(1), func(b *EnvelopeBody) { b.Enc = nil }), is("malformed"))
	cut := seal(h, testKey(1), "")
	cut.Body = cut.Body[:len(cut.Body)-1]
	add("cut", cut, is("malformed"))
	flipped := seal(h, testKey(1), "")
	flipped.Body[len(flipped.Body)-1] ^= 1
	add("a bit turned on the way", flipped, is("signature"))
	return cases
}

type windowVector struct {
	Sequences []string `json:"sequences"` // decimal: JavaScript has no such numbers
	Codes     []string `json:"codes"`
}

func TestWindowVectors(t *testing.T) {
	var cases []windowVector
	for _, list := range [][]uint64{
		{1, 2, 3, 2, 1, 3},
		{64, 1, 1, 65, 1, 2, 66},
		{1, 1000, 937, 936, 1000, 937},
		{1 << 63, 1<<64 - 1, 1<<64 - 1, 1<<64 - 2},
		{5, 4, 3, 2, 1, 0},
	} {
		var w Window
		var v windowVector
		for _, s := range list {
			v.Sequences = append(v.Sequences, strconv.FormatUint(s, 10))
			v.Codes = append(v.Codes, codeOf(w.Take(s)))
		}
		cases = append(cases, v)
	}
	checkVectors(t, "windows", cases)
	for i, want := range []string{"ok ok ok expired expired expired", "ok ok expired ok stale ok ok"} {
		if got := strings.Join(cases[i].Codes, " "); got != want {
			t.Errorf("%v: %s, want %s", cases[i].Sequences, got, want)
		}
	}
}

// Whatever a node hands over, opening it neither panics nor yields anything.
func FuzzEnvelope(f *testing.F) {
	for _, v := range []string{"", "0a", "12020a00"} {
		f.Add([]byte(v), []byte(v))
	}
	h := &EnvelopeHeader{App: peerApp, From: testMember(1), To: testMember(2), Sequence: 1, Kind: EnvelopeBody_KIND_OFFER}
	e, err := h.Seal(testKey(1), testSeal(2).Public(), AppSecret{}, []byte("x"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(e.Body, e.Signature)
	f.Fuzz(func(t *testing.T, body, signature []byte) {
		_, plain, err := (&Envelope{Body: body, Signature: signature}).Open(peerApp, testMember(2), testSeal(2), AppSecret{})
		if err == nil && string(plain) != "x" {
			t.Errorf("opened %q", plain)
		}
		var typed *Error
		if err != nil && !errors.As(err, &typed) {
			t.Errorf("%v has no code", err)
		}
	})
}

// The same of a presence.
func FuzzPresence(f *testing.F) {
	p := testPresence(1)
	if err := SignPresence(testKey(1), peerApp, p); err != nil {
		f.Fatal(err)
	}
	f.Add(p.Signed.Key, p.Signed.Body, p.Signed.Signature)
	f.Fuzz(func(t *testing.T, key, body, signature []byte) {
		got, err := (&SignedPresence{Key: key, Body: body, Signature: signature}).Verify(peerApp)
		if err == nil && (got.Member.Peer != PeerID(key) || len(got.Metadata) > MaxMetadata) {
			t.Errorf("%+v", got)
		}
	})
}
