package relay

import (
	"bytes"
	"testing"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// neighbour is what a node knows of another that is linked to it.
func (nd *tnode) neighbour(other *tnode) Neighbour {
	nd.sc.t.Helper()
	for _, n := range nd.r.Neighbours() {
		if n.Node == other.r.ID() {
			return n
		}
	}
	nd.sc.t.Fatalf("node %d is not linked to node %d", nd.i, other.i)
	return Neighbour{}
}

func today() uint32 { return uint32(time.Now().Unix() / (24 * 60 * 60)) }

// testTurnKeys are those of a node for another one, different each hour.
func testTurnKeys(from *tnode, to protocol.NodeID) []*protocol.TurnKeys_Key {
	key := make([]byte, turnKeySize)
	copy(key, to[:16])
	key[30], key[31] = byte(from.i), byte(time.Now().Hour())
	return []*protocol.TurnKeys_Key{{Day: today(), Key: key}, {Day: today() + 1, Key: key}}
}

// TestTurnKeys: a linked node is given keys of its own, and new ones each hour.
func TestTurnKeys(t *testing.T) {
	play(t, 0, func(sc *scene) {
		sc.configure = func(nd *tnode, cfg *Config) {
			if nd.i < 2 {
				cfg.TURNKeys = func(to protocol.NodeID) []*protocol.TurnKeys_Key { return testTurnKeys(nd, to) }
			}
		}
		a, b, c := sc.start(), sc.start(), sc.start()
		sc.meet(a, b, c)
		sc.wait(time.Second)
		for hours := range 3 {
			if sc.wait(time.Second); hours > 0 {
				sc.wait(time.Hour)
			}
			for _, pair := range [][2]*tnode{{a, b}, {b, a}, {a, c}} {
				keys, want := pair[1].neighbour(pair[0]).Keys, testTurnKeys(pair[0], pair[1].r.ID())
				if len(keys) != 2 || !bytes.Equal(keys[0].Key, want[0].Key) || keys[0].Day != want[0].Day || keys[1].Day != want[1].Day {
					t.Errorf("after %d hours node %d has %v of node %d, want %v", hours, pair[1].i, keys, pair[0].i, want)
				}
			}
		}
		if keys := a.neighbour(c).Keys; keys != nil {
			t.Errorf("a node without TURN gave %v", keys)
		}
	})
}

// TestTurnKeysRefused: what another node gives is checked as a whole.
func TestTurnKeysRefused(t *testing.T) {
	play(t, 1, func(sc *scene) {
		sc.nodes[0].join("a")
		r := attack(sc)
		good := []*protocol.TurnKeys_Key{{Day: today(), Key: make([]byte, turnKeySize)}}
		give := func(keys []*protocol.TurnKeys_Key) int {
			r.send(t, &protocol.Frame{Body: &protocol.Frame_TurnKeys{TurnKeys: &protocol.TurnKeys{Keys: keys}}})
			sc.wait(time.Second)
			return len(sc.nodes[0].r.Neighbours()[0].Keys)
		}
		if n := give(good); n != 1 {
			t.Fatalf("%d keys, want 1", n)
		}
		for what, keys := range map[string][]*protocol.TurnKeys_Key{
			"three":     {good[0], {Day: today() + 1, Key: make([]byte, turnKeySize)}, {Day: today() - 1, Key: make([]byte, turnKeySize)}},
			"a short":   {{Day: today() + 1, Key: make([]byte, turnKeySize-1)}, {Day: today(), Key: make([]byte, turnKeySize)}},
			"a long":    {{Day: today() + 1, Key: make([]byte, turnKeySize+1)}, {Day: today(), Key: make([]byte, turnKeySize)}},
			"an old":    {{Day: today() - 3, Key: make([]byte, turnKeySize)}, {Day: today(), Key: make([]byte, turnKeySize)}},
			"an early":  {{Day: today() + 3, Key: make([]byte, turnKeySize)}, {Day: today(), Key: make([]byte, turnKeySize)}},
			"the last":  {{Day: 1<<32 - 1, Key: make([]byte, turnKeySize)}, {Day: today(), Key: make([]byte, turnKeySize)}},
			"two alike": {good[0], good[0]},
		} {
			if n := give(keys); n != 1 {
				t.Errorf("%s: %d keys are kept, want the one of before", what, n)
			}
		}
		if n := give(nil); n != 0 {
			t.Errorf("%d keys of a node that has TURN no more", n)
		}
		r.sc.close(1000)
	})
}

// TestRTT: a link is measured at once, and again while it is quiet; the smallest
// of the last few counts.
func TestRTT(t *testing.T) {
	play(t, 2, func(sc *scene) {
		a, b := sc.nodes[0], sc.nodes[1]
		sc.net.setDelay(40 * time.Millisecond)
		sc.meet(a, b)
		rtt := func(want time.Duration) {
			t.Helper()
			for _, n := range []Neighbour{a.neighbour(b), b.neighbour(a)} {
				if n.RTT < want || n.RTT > want+2*time.Millisecond {
					t.Errorf("%s is %v away, want %v", n.Node.Short(), n.RTT, want)
				}
			}
		}
		sc.wait(time.Second)
		rtt(80 * time.Millisecond)
		sc.net.setDelay(100 * time.Millisecond)
		sc.wait(20 * time.Second)
		rtt(80 * time.Millisecond)
		sc.wait(rttsKept * pingBusy)
		rtt(200 * time.Millisecond)
		sc.net.setDelay(10 * time.Millisecond)
		sc.wait(pingBusy + time.Second)
		rtt(20 * time.Millisecond)
		if n := a.neighbour(b); n.Address.String() != "10.0.0.2" || n.Record.URLs[0] != b.url {
			t.Errorf("node 1 is at %v with %v", n.Address, n.Record)
		}
	})
}

// TestRTTBusy: a link on which there is no quiet is measured too.
func TestRTTBusy(t *testing.T) {
	play(t, 2, func(sc *scene) {
		sc.net.setDelay(100 * time.Millisecond)
		sc.meet(sc.nodes...)
		a, b := sc.nodes[0].join("a"), sc.nodes[1].join("b")
		sc.wait(time.Second)
		sc.net.setDelay(10 * time.Millisecond)
		for range 40 {
			a.announce(1)
			b.announce(1)
			sc.wait(time.Second)
		}
		for i, nd := range sc.nodes {
			if n := nd.neighbour(sc.nodes[1-i]); n.RTT < 20*time.Millisecond || n.RTT > 60*time.Millisecond {
				t.Errorf("node %d: the other is %v away, want 20 ms and what an acknowledgement waits", i, n.RTT)
			}
		}
	})
}

// TestRTTForged: an answer counts once, and only with the nonce of the question.
func TestRTTForged(t *testing.T) {
	play(t, 1, func(sc *scene) {
		sc.nodes[0].join("a")
		r := attack(sc)
		ping := func(nonce uint64, answer bool) {
			r.send(t, &protocol.Frame{Body: &protocol.Frame_Ping{Ping: &protocol.Ping{Nonce: nonce, Answer: answer}}})
			sc.wait(time.Millisecond)
		}
		rtt := func() time.Duration { return sc.nodes[0].r.Neighbours()[0].RTT }
		var asked uint64
		for _, f := range r.all {
			if p := f.GetPing(); p != nil && !p.Answer {
				asked = p.Nonce
			}
		}
		if asked == 0 {
			t.Fatal("the link is not measured")
		}
		for nonce := range uint64(1000) {
			ping(nonce, true)
		}
		ping(asked+1, true)
		ping(asked, false)
		if rtt() != 0 {
			t.Errorf("an answer that is none counts: %v", rtt())
		}
		ping(asked, true)
		first := rtt()
		sc.wait(time.Second)
		ping(asked, true)
		if first < 900*time.Millisecond || rtt() != first {
			t.Errorf("the answer counts %v, and again %v", first, rtt())
		}
		r.sc.close(1000)
	})
}

// TestRecordChanged: a node that learns its address tells those it is linked to.
func TestRecordChanged(t *testing.T) {
	play(t, 3, func(sc *scene) {
		a, b := sc.nodes[0], sc.nodes[1]
		a.finder.hidden = true
		a.finder.know(b.finder.own)
		sc.wait(time.Second)
		if n := b.neighbour(a); n.Record != nil {
			t.Fatalf("a node that is not dialled has %v", n.Record)
		}
		rec := *a.finder.own
		rec.Seq, rec.STUNPort = time.Now().UnixMilli(), 3478
		if err := protocol.SignRecord(testKeyOf(a), &rec); err != nil {
			t.Fatal(err)
		}
		a.finder.own, a.finder.hidden = &rec, false
		a.r.RecordChanged()
		sc.wait(time.Second)
		if n := b.neighbour(a); n.Record == nil || n.Record.STUNPort != 3478 {
			t.Errorf("the record is %v, want one with a STUN port", n.Record)
		}
		sc.wait(3 * time.Hour)
		if n := b.neighbour(a); n.Record != nil {
			t.Fatalf("a record that has ended is shown: %v", n.Record)
		}
		rec.Seq = time.Now().UnixMilli()
		if err := protocol.SignRecord(testKeyOf(a), &rec); err != nil {
			t.Fatal(err)
		}
		sc.wait(time.Hour)
		if n := b.neighbour(a); n.Record == nil || n.Record.Seq != rec.Seq {
			t.Errorf("the record is %v, want the new one after an hour", n.Record)
		}
		old := rec
		old.Seq, old.STUNPort = rec.Seq-1, 1
		if err := protocol.SignRecord(testKeyOf(a), &old); err != nil {
			t.Fatal(err)
		}
		forged := &protocol.SignedRecord{Key: rec.Signed.Key, Seq: rec.Seq + 1, Value: rec.Signed.Value, Signature: rec.Signed.Signature}
		for _, signed := range []*protocol.SignedRecord{old.Signed, forged} {
			b.r.handle(b.link(a), nil, nodesFrame(0, signed))
			if n := b.neighbour(a); n.Record.Seq != rec.Seq || b.link(a).record.Seq != rec.Seq {
				t.Errorf("a record that is old or forged is taken: %v", n.Record)
			}
		}
		a.finder.hidden = true
		sc.wait(time.Second)
		a.r.RecordChanged()
		sc.wait(time.Second)
		if n := b.neighbour(a); n.Record != nil || len(b.r.Records(5)) != 0 {
			t.Errorf("a record that was taken back is %v", n.Record)
		}
	})
}
