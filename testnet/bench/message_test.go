package bench

import (
	"encoding/json"
	"math/rand/v2"
	"testing"

	"github.com/peerservers/peerserver/testnet/bench/gear"
)

func TestNames(t *testing.T) {
	n := newNames(7, 1000)
	var room []byte
	for i := range 10_000 {
		from, seq := rand.IntN(100_000), rand.Uint32()
		o := n.offerID(from, seq)
		if f, s, ok := n.parseOffer(&o); f != from || s != seq || !ok {
			t.Fatalf("%x is offer %d of %d, %v; want %d of %d", o, s, f, ok, seq, from)
		}
		p := n.peerID(from)
		if f, ok := n.parsePeer(&p); f != from || !ok {
			t.Fatalf("%q is %d, %v", p, f, ok)
		}
		for _, id := range []id{o, p, n.infoHash(i)} {
			text := appendID(nil, &id)
			var chars string
			if err := json.Unmarshal(text, &chars); err != nil || len([]rune(chars)) != 20 {
				t.Fatalf("%q is no JSON string of 20 characters: %v", text, err)
			}
			back := id
			back[3]++
			if !back.read(text) || back != id {
				t.Fatalf("%q is read as %x", text, back)
			}
			// One changed byte is another's id, or nobody's.
			id[rand.IntN(20)] ^= 1 << rand.IntN(8)
			if f, s, ok := n.parseOffer(&id); ok && f == from && s == seq {
				t.Fatal("a changed offer id is taken for the same")
			}
		}
		pl := gear.Payload{Kind: gear.Offer, By: from, Of: from, Seq: seq}
		text := n.Append(nil, pl)
		if !json.Valid(text) || len(text) < 900 || len(text) > 1100 {
			t.Fatalf("payload %q", text)
		}
		for _, other := range []gear.Payload{
			{Kind: gear.Answer, By: from, Of: from, Seq: seq},
			{Kind: gear.Offer, By: from + 1, Of: from, Seq: seq},
			{Kind: gear.Offer, By: from, Of: from + 1, Seq: seq},
			{Kind: gear.Offer, By: from, Of: from, Seq: seq + 1},
		} {
			if n.Is(text, other, &room) {
				t.Fatalf("the payload of %v is taken for that of %v", pl, other)
			}
		}
		if got, ok := gear.ParsePayload(text); !ok || got != pl {
			t.Fatalf("the payload of %v says that it is %v, %v", pl, got, ok)
		}
		text[rand.IntN(len(text))] ^= 1
		if n.Is(text, pl, &room) {
			t.Fatal("a changed payload is taken for the same")
		}
	}
}

func TestLedgerForgets(t *testing.T) {
	var l ledger
	var sum totals
	for range 10 * keep {
		seq, ok := l.add(1, 0, false, &sum)
		if !ok {
			t.Fatal("an announce waits for nothing")
		}
		if _, ok := l.add(1, 0, false, &sum); ok {
			t.Fatal("an announce does not wait for the one before")
		}
		if _, v := l.deliver(seq, 1, 1, 0, false); v != fine {
			t.Fatal(v)
		}
		if _, _, v := l.answer(seq, 1, false); v != fine {
			t.Fatal(v)
		}
	}
	if len(l.list) > 3*keep {
		t.Errorf("%d offers are remembered", len(l.list))
	}
	if _, v := l.deliver(3, 1, 1, 0, false); v != duplicate {
		t.Errorf("an offer that is forgotten is %v when it comes again", v)
	}
	if _, _, v := l.answer(3, 1, false); v != duplicate {
		t.Errorf("so is its answer: %v", v)
	}
	if _, v := l.deliver(20*keep, 1, 1, 0, false); v != misrouted {
		t.Errorf("an offer that never was is %v", v)
	}
	if due := l.close(&sum); due >= 0 || sum.lostOffers.Load() > 0 {
		t.Error("something is lost")
	}
}

func FuzzMessage(f *testing.F) {
	for _, s := range []string{
		`{"action":"announce","interval":120,"info_hash":"ÿa\\\"\u0000","complete":0,"incomplete":64}`,
		`{"action":"announce","offer":{"type":"offer","sdp":"a\\\"}{["},"offer_id":"x","peer_id":"y"}`,
		` { "failure reason" : "no" , "answer" : [ { } , "]" ] } `,
		`{}`, `{"a`, `[]`, ``, `{"a":}`, `{"a":"\`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var m message
		ok := m.scan(b)
		var want map[string]json.RawMessage
		if json.Unmarshal(b, &want) != nil || want == nil {
			return // it trusts servers that far
		}
		if !ok {
			t.Fatalf("%q is not read", b)
		}
		for key, got := range map[string][]byte{"action": m.action, "offer": m.offer, "peer_id": m.peerID, "interval": m.interval} {
			// A name may be written with escapes; trackers do not.
			if got != nil && string(got) != string(want[key]) {
				t.Fatalf("%q: %s is %q", b, key, got)
			}
		}
	})
}
