package protocol

import (
	"bytes"
	"crypto/ed25519"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
)

var beaconNow = time.UnixMilli(1_800_000_000_000)

func nodeRecord(t testing.TB, seed byte) *SignedRecord {
	t.Helper()
	r := &Record{Seq: beaconNow.UnixMilli(), TTL: RecordTTL, URLs: []string{"ws://10.0.0.1:8787"}}
	if err := SignRecord(testKey(seed), r); err != nil {
		t.Fatal(err)
	}
	return r.Signed
}

// beacon is one with changes to what is signed, and to the whole.
func beacon(t testing.TB, body func(*BeaconBody), whole func(*Beacon)) []byte {
	t.Helper()
	b := &BeaconBody{Nonce: make([]byte, BeaconNonce), Port: 1234}
	body(b)
	raw, err := proto.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	key := testKey(1)
	s := &Beacon{Key: key.Public().(ed25519.PublicKey), Body: raw, Signature: ed25519.Sign(key, beaconBytes(raw))}
	whole(s)
	datagram, err := proto.MarshalOptions{}.MarshalAppend([]byte(beaconMagic), s)
	if err != nil {
		t.Fatal(err)
	}
	return datagram
}

func asIs(*Beacon) {}

func TestBeaconOfPeer(t *testing.T) {
	app, other := App("peer", []byte("mine"), nil), App("peer", []byte("other"), nil)
	key := testKey(1)
	many := make([]AppID, 2*MaxBeaconTags)
	many[0] = app
	b, err := SignBeacon(key, [BeaconNonce]byte{1, 2, 3}, many, 4321, nil)
	if err != nil {
		t.Fatal(err)
	}
	a, err := ReadBeacon(b, beaconNow)
	if err != nil {
		t.Fatal(err)
	}
	if NodeID(a.Key) != testNode(1) || a.Port != 4321 || a.Record != nil || len(a.Tags) != MaxBeaconTags {
		t.Fatalf("%+v", a)
	}
	if !a.Serves(app) || a.Serves(other) {
		t.Fatal("the tags are not those of the apps")
	}
	again, err := SignBeacon(key, [BeaconNonce]byte{4, 5, 6}, many, 4321, nil)
	if err != nil || bytes.Contains(again, a.Tags[0]) {
		t.Fatalf("a tag comes twice, %v", err)
	}
	if bytes.Contains(b, app[:]) {
		t.Fatal("the app is in it")
	}
}

func TestBeaconOfNode(t *testing.T) {
	b, err := SignBeacon(testKey(1), [BeaconNonce]byte{}, nil, 0, nodeRecord(t, 1))
	if err != nil {
		t.Fatal(err)
	}
	a, err := ReadBeacon(b, beaconNow)
	if err != nil || a.Record == nil || a.Record.Node != testNode(1) || !slices.Equal(a.Record.URLs, []string{"ws://10.0.0.1:8787"}) {
		t.Fatalf("%+v, %v", a, err)
	}
}

func TestBeaconRefused(t *testing.T) {
	good := beacon(t, func(*BeaconBody) {}, asIs)
	for _, c := range []struct {
		name     string
		datagram []byte
		code     Code
	}{
		{"as it is", good, CodeOK},
		{"nothing", nil, CodeMalformed},
		{"the start alone", []byte(beaconMagic), CodeMalformed},
		{"another start", append([]byte("psb2"), good[4:]...), CodeMalformed},
		{"truncated", good[:len(good)-1], CodeMalformed},
		{"too large", beacon(t, func(b *BeaconBody) { b.Tags = slices.Repeat([][]byte{make([]byte, TagSize)}, 70) }, asIs), CodeMalformed},
		{"short key", beacon(t, func(*BeaconBody) {}, func(s *Beacon) { s.Key = s.Key[1:] }), CodeMalformed},
		{"no key", beacon(t, func(*BeaconBody) {}, func(s *Beacon) { s.Key = nil }), CodeMalformed},
		{"short nonce", beacon(t, func(b *BeaconBody) { b.Nonce = b.Nonce[1:] }, asIs), CodeMalformed},
		{"many tags", beacon(t, func(b *BeaconBody) { b.Tags = slices.Repeat([][]byte{make([]byte, TagSize)}, MaxBeaconTags+1) }, asIs), CodeMalformed},
		{"short tag", beacon(t, func(b *BeaconBody) { b.Tags = [][]byte{{1}} }, asIs), CodeMalformed},
		{"no port", beacon(t, func(b *BeaconBody) { b.Port = 0 }, asIs), CodeMalformed},
		{"large port", beacon(t, func(b *BeaconBody) { b.Port = 65536 }, asIs), CodeMalformed},
		{"changed body", beacon(t, func(*BeaconBody) {}, func(s *Beacon) { s.Body = append(s.Body, 0x18, 1) }), CodeSignature},
		{"another key", beacon(t, func(*BeaconBody) {}, func(s *Beacon) { k := testNode(2); s.Key = k[:] }), CodeSignature},
		{"no signature", beacon(t, func(*BeaconBody) {}, func(s *Beacon) { s.Signature = nil }), CodeSignature},
		{"another's record", beacon(t, func(b *BeaconBody) { b.Record = nodeRecord(t, 2) }, asIs), CodeMalformed},
		{"empty record", beacon(t, func(b *BeaconBody) { b.Record = new(SignedRecord) }, asIs), CodeMalformed},
		{"changed record", beacon(t, func(b *BeaconBody) { b.Record = nodeRecord(t, 1); b.Record.Seq-- }, asIs), CodeSignature},
		{"old record", beacon(t, func(b *BeaconBody) {
			r := &Record{Seq: beaconNow.Add(-3 * time.Hour).UnixMilli(), TTL: RecordTTL}
			if err := SignRecord(testKey(1), r); err != nil {
				t.Fatal(err)
			}
			b.Record = r.Signed
		}, asIs), CodeStale},
	} {
		if a, err := ReadBeacon(c.datagram, beaconNow); codeOf(err) != c.code.String() || (err != nil) != (a == nil) {
			t.Errorf("%s: %+v, %v; want %s", c.name, a, err, c.code)
		}
	}
}

func TestLANHello(t *testing.T) {
	app, other := App("peer", []byte("mine"), nil), App("peer", []byte("other"), nil)
	one, two := NewLANHello(app, PeerID{1}, [LANNonce]byte{1}), NewLANHello(app, PeerID{2}, [LANNonce]byte{2})
	if id, err := one.Verify(app); err != nil || id != (PeerID{1}) {
		t.Fatal(id, err)
	}
	if _, err := one.Verify(other); codeOf(err) != CodeDenied.String() {
		t.Fatal(err)
	}
	if _, err := (&LANHello{Key: one.Key, Nonce: two.Nonce, Tag: one.Tag}).Verify(app); codeOf(err) != CodeDenied.String() {
		t.Fatal(err)
	}
	if _, err := (&LANHello{Key: one.Key[1:], Nonce: one.Nonce, Tag: one.Tag}).Verify(app); codeOf(err) != CodeMalformed.String() {
		t.Fatal(err)
	}
	var keys []string
	for _, k := range []struct {
		app      AppID
		from, to *LANHello
	}{{app, one, two}, {app, two, one}, {other, one, two}} {
		key, err := LANKey(k.app, k.from, k.to)
		if err != nil || len(key) != 16 || slices.Contains(keys, string(key)) {
			t.Fatalf("%x, %v", key, err)
		}
		keys = append(keys, string(key))
	}
}

// FuzzBeacon reads anything as a beacon: what is accepted is within its limits
// and signed.
func FuzzBeacon(f *testing.F) {
	f.Add(beacon(f, func(*BeaconBody) {}, asIs)[4:])
	f.Add(beacon(f, func(b *BeaconBody) { b.Record = nodeRecord(f, 1) }, asIs)[4:])
	f.Fuzz(func(t *testing.T, b []byte) {
		b = append([]byte(beaconMagic), b...)
		a, err := ReadBeacon(b, beaconNow)
		if err != nil {
			return
		}
		if len(b) > MaxBeacon || len(a.Tags) > MaxBeaconTags || (a.Record == nil && a.Port == 0) || (a.Record != nil && a.Record.Node != NodeID(a.Key)) {
			t.Fatalf("%+v", a)
		}
		a.Serves(MeshApp)
		var s Beacon
		if proto.Unmarshal(b[4:], &s) != nil || !ed25519.Verify(a.Key[:], beaconBytes(s.Body), s.Signature) {
			t.Fatal("a beacon without signature is accepted")
		}
	})
}

// FuzzLANHello reads anything as a greeting: who is not of the app is nobody.
func FuzzLANHello(f *testing.F) {
	app := App("peer", []byte("mine"), nil)
	for _, of := range []AppID{app, MeshApp} {
		b, err := proto.Marshal(NewLANHello(of, PeerID{1}, [LANNonce]byte{1}))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var h LANHello
		if proto.Unmarshal(b, &h) != nil {
			return
		}
		id, err := h.Verify(app)
		if err != nil {
			if id != (PeerID{}) {
				t.Fatal("somebody comes with an error")
			}
			return
		}
		if again := NewLANHello(app, id, [LANNonce]byte(h.Nonce)); !bytes.Equal(again.Tag, h.Tag) {
			t.Fatalf("%v is another's greeting", id)
		}
	})
}
