package dhtstore

import (
	"crypto/ed25519"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/peerservers/peerserver/protocol"
)

// FuzzRecordReply has a node answer ps_record with any bytes. What is believed
// is signed by the key it names, neither from the future nor expired, and the
// same when it is verified anew; and the next honest answer is taken.
func FuzzRecordReply(f *testing.F) {
	h := newHub()
	s, err := Open(Config{Conn: h.listen(netip.AddrPort{}), Key: testKey(1), Private: true, Bootstrap: []string{}})
	if err != nil {
		f.Fatal(err)
	}
	ctx, done := f.Context(), make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	f.Cleanup(func() { <-done })

	var body atomic.Pointer[[]byte]
	var liar *fake
	liar = newFake(h, func(q *query) []byte {
		if b := body.Load(); b != nil && q.method == "ps_record" {
			packet := appendRaw([]byte{'d'}, "r", *b)
			packet = appendEntry(packet, "t", q.t)
			liar.reply(append(appendEntry(packet, "y", "r"), 'e'), s)
		}
		// If that was no answer this one is, so that nobody waits.
		packet := appendRefusal(appendString([]byte{'d'}, "e"), refusal{Code: errMethod, Msg: "none"})
		packet = appendEntry(packet, "t", q.t)
		return append(appendEntry(packet, "y", "e"), 'e')
	})
	f.Cleanup(liar.stop)

	r := &protocol.Record{Seq: time.Now().UnixMilli(), TTL: protocol.RecordTTL, URLs: []string{"wss://node.example", "ws://10.0.0.1:8787"}}
	if err := protocol.SignRecord(testKey(2), r); err != nil {
		f.Fatal(err)
	}
	fields := func() map[string]any {
		return map[string]any{
			"id": make([]byte, 20), "k": r.Signed.Key, "seq": r.Seq, "sig": r.Signed.Signature, "v": bencoded(r.Signed.Value),
		}
	}
	good := dict(fields())
	f.Add(good)
	for cut := 0; cut < len(good); cut += 17 {
		f.Add(good[:cut])
	}
	for _, change := range []struct {
		key   string
		value any
	}{
		{"seq", 1 << 62},
		{"seq", -1},
		{"seq", "1"},
		{"k", "short"},
		{"sig", ""},
		{"v", bencoded("i1e")},
		{"v", bencoded("0:")},
		{"v", bencoded("lllee")},
		{"v", make([]byte, 1100)},
		{"id", "x"},
		{"token", "t"},
		{"values", "x"},
		{"nodes", "x"},
	} {
		all := fields()
		all[change.key] = change.value
		f.Add(dict(all))
	}
	s.servers[0].budget.SetLimit(rate.Inf)
	unpace := func() { // one node is asked more often here than elsewhere
		p := s.servers[0].pace
		p.mu.Lock()
		defer p.mu.Unlock()
		p.next.delete(sourceOf(liar.addr, true))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		unpace()
		body.Store(&b)
		if got, err := s.askNow(t.Context(), liar.addr); err == nil {
			now := time.Now()
			if got.Node != protocol.NodeID(got.Signed.Key) || len(got.Signed.Signature) != ed25519.SignatureSize ||
				time.UnixMilli(got.Seq).After(now.Add(protocol.RecordAhead)) || !got.Expires().After(now) {
				t.Errorf("%q is believed: %+v", b, got)
			}
			if again, err := got.Signed.Verify(got.Node, now); err != nil || again.Seq != got.Seq {
				t.Errorf("%q is believed, and then not: %v", b, err)
			}
		}
		body.Store(&good)
		if got, err := s.askNow(t.Context(), liar.addr); err != nil || got.Node != nodeID(2) {
			t.Errorf("after %q the honest answer is not taken: %v, %v", b, got, err)
		}
	})
}

// reply sends a packet from the fake's address.
func (f *fake) reply(b []byte, to *Store) {
	f.hub.inject(f.addr, to.sides[0].self, b)
}
