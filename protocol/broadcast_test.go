package protocol

import (
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"
)

// broadcastVector is what a member that knows the app has and gets.
type broadcastVector struct {
	Name      string `json:"name"`
	App       string `json:"app"`
	AppName   string `json:"appName"`
	Secret    string `json:"secret"`
	Key       string `json:"key"` // of these three
	Body      string `json:"body"`
	Signature string `json:"signature"`
	From      string `json:"from"`
	Sequence  uint64 `json:"sequence"`
	Plain     string `json:"plain"`
	Code      string `json:"code"`
}

func TestBroadcastVectors(t *testing.T) {
	codes := make(map[string]int)
	for _, v := range sealedVectors(t, "broadcasts", broadcastSome) {
		e := &Envelope{Body: fromHex(t, v.Body), Signature: fromHex(t, v.Signature)}
		app := AppID(fromHex(t, v.App))
		k := BroadcastKey(app, []byte(v.AppName), []byte(v.Secret))
		if hex.EncodeToString(k[:]) != v.Key {
			t.Errorf("%s: the key is %x", v.Name, k)
		}
		h, plain, err := e.OpenBroadcast(app, k)
		codes[codeOf(err)]++
		if codeOf(err) != v.Code {
			t.Errorf("%s: %v, want %s", v.Name, err, v.Code)
			continue
		}
		if err == nil && (string(plain) != v.Plain || hex.EncodeToString(h.From.Bytes()) != v.From || h.Sequence != v.Sequence || h.Kind != EnvelopeBody_KIND_BROADCAST) {
			t.Errorf("%s: %+v says %q", v.Name, h, plain)
		}
		if err == nil {
			if _, _, err := e.Open(app, Member{}, testSeal(2), AppSecret{}); codeOf(err) != "denied" {
				t.Errorf("%s: opened as an envelope for one: %v", v.Name, err)
			}
		}
	}
	if codes["ok"] < 3 || codes["signature"] < 8 || codes["denied"] < 3 || codes["malformed"] < 4 {
		t.Errorf("cases by code: %v", codes)
	}
}

// broadcastChanged is a broadcast with another body, signed by key.
func broadcastChanged(t *testing.T, e *Envelope, key ed25519.PrivateKey, change func(b *EnvelopeBody)) *Envelope {
	t.Helper()
	var b EnvelopeBody
	if err := proto.Unmarshal(e.Body, &b); err != nil {
		t.Fatal(err)
	}
	change(&b)
	changed, err := signEnvelope(key, &b)
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

func broadcastSome(t *testing.T) (cases []broadcastVector) {
	const name, plain = "chess", "hello, all"
	other := App("peer", []byte("go"), nil)
	h := &EnvelopeHeader{App: peerApp, From: testMember(1), Sequence: 5}
	seal := func(key ed25519.PrivateKey, secret, plain string) *Envelope {
		e, err := h.SealBroadcast(key, BroadcastKey(h.App, []byte(name), []byte(secret)), []byte(plain))
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	add := func(title string, e *Envelope, code string, change func(v *broadcastVector)) {
		v := broadcastVector{
			Name: title, App: peerApp.String(), AppName: name, Body: hex.EncodeToString(e.Body), Signature: hex.EncodeToString(e.Signature), Code: code,
		}
		if code == "ok" {
			v.From, v.Sequence, v.Plain = hex.EncodeToString(h.From.Bytes()), h.Sequence, plain
		}
		if change != nil {
			change(&v)
		}
		k := BroadcastKey(AppID(fromHex(t, v.App)), []byte(v.AppName), []byte(v.Secret))
		v.Key = hex.EncodeToString(k[:])
		cases = append(cases, v)
	}
	changed := func(title, code string, key ed25519.PrivateKey, change func(b *EnvelopeBody)) {
		add(title, broadcastChanged(t, seal(testKey(1), "", plain), key, change), code, nil)
	}
	add("as it should be", seal(testKey(1), "", plain), "ok", nil)
	add("with the app's secret", seal(testKey(1), "hunter2", plain), "ok", func(v *broadcastVector) { v.Secret = "hunter2" })
	add("with nothing in it", seal(testKey(1), "", ""), "ok", func(v *broadcastVector) { v.Plain = "" })
	add("another secret", seal(testKey(1), "hunter2", plain), "signature", func(v *broadcastVector) { v.Secret = "hunter3" })
	add("a secret where there is none", seal(testKey(1), "", plain), "signature", func(v *broadcastVector) { v.Secret = "hunter2" })
	add("another name", seal(testKey(1), "", plain), "signature", func(v *broadcastVector) { v.AppName = "chess2" })
	add("signed by another key", seal(testKey(3), "", plain), "signature", nil)
	add("another app", seal(testKey(1), "", plain), "denied", func(v *broadcastVector) { v.App = other.String() })
	changed("taken to another app, signed anew", "denied", testKey(1), func(b *EnvelopeBody) { b.App = other[:] })
	changed("taken over by somebody else", "signature", testKey(3), func(b *EnvelopeBody) { b.From = testMember(3).Bytes() })
	changed("from another session", "signature", testKey(1), func(b *EnvelopeBody) { b.From[39] ^= 1 })
	changed("another sequence", "signature", testKey(1), func(b *EnvelopeBody) { b.Sequence = 6 })
	changed("another nonce", "signature", testKey(1), func(b *EnvelopeBody) { b.Enc[0] ^= 1 })
	changed("a changed seal", "signature", testKey(1), func(b *EnvelopeBody) { b.Sealed[3] ^= 1 })
	changed("a cut seal", "signature", testKey(1), func(b *EnvelopeBody) { b.Sealed = b.Sealed[:len(b.Sealed)-1] })
	changed("no seal", "signature", testKey(1), func(b *EnvelopeBody) { b.Sealed = nil })
	changed("for one member", "denied", testKey(1), func(b *EnvelopeBody) { b.To = testMember(2).Bytes() })
	changed("of another kind", "denied", testKey(1), func(b *EnvelopeBody) { b.Kind = EnvelopeBody_KIND_MESSAGE })
	changed("no sequence", "malformed", testKey(1), func(b *EnvelopeBody) { b.Sequence = 0 })
	changed("no sender", "malformed", testKey(1), func(b *EnvelopeBody) { b.From = nil })
	changed("no nonce", "malformed", testKey(1), func(b *EnvelopeBody) { b.Enc = nil })
	changed("a nonce that is too long", "malformed", testKey(1), func(b *EnvelopeBody) { b.Enc = append(b.Enc, 0) })
	one := &EnvelopeHeader{App: peerApp, From: testMember(1), To: testMember(2), Sequence: 5, Kind: EnvelopeBody_KIND_MESSAGE}
	single, err := one.Seal(testKey(1), testSeal(2).Public(), AppSecret{}, []byte(plain))
	if err != nil {
		t.Fatal(err)
	}
	add("an envelope for one member", single, "denied", nil)
	cut := seal(testKey(1), "", plain)
	cut.Body = cut.Body[:len(cut.Body)-1]
	add("cut", cut, "malformed", nil)
	flipped := seal(testKey(1), "", plain)
	flipped.Body[len(flipped.Body)-1] ^= 1
	add("a bit turned on the way", flipped, "signature", nil)
	return cases
}

// No two broadcasts have the same nonce: with the same key, that would show
// what they differ by.
func TestBroadcastNonces(t *testing.T) {
	h := &EnvelopeHeader{App: peerApp, From: testMember(1), Sequence: 1}
	seen := make(map[string]bool)
	for range 100 {
		e, err := h.SealBroadcast(testKey(1), BroadcastKey(peerApp, []byte("chess"), nil), nil)
		if err != nil {
			t.Fatal(err)
		}
		b, _, err := e.parse()
		if err != nil || seen[string(b.Enc)] {
			t.Fatalf("%v, nonce %x", err, b.Enc)
		}
		seen[string(b.Enc)] = true
	}
}

// Whatever a node hands over, opening it neither panics nor yields anything.
func FuzzBroadcast(f *testing.F) {
	k := BroadcastKey(peerApp, []byte("chess"), nil)
	e, err := (&EnvelopeHeader{App: peerApp, From: testMember(1), Sequence: 1}).SealBroadcast(testKey(1), k, []byte("x"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(e.Body, e.Signature)
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, body, signature []byte) {
		_, plain, err := (&Envelope{Body: body, Signature: signature}).OpenBroadcast(peerApp, k)
		if err == nil && string(plain) != "x" {
			t.Errorf("opened %q", plain)
		}
		var typed *Error
		if err != nil && !errors.As(err, &typed) {
			t.Errorf("%v has no code", err)
		}
	})
}
