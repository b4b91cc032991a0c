package relay

import (
	"bytes"
	"testing"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// Relayed data goes last: a signal that comes after a lot of it waits behind
// what is on its way already, and no more. What is too much is refused, and all
// that was taken arrives in order.
func TestDataGoesLast(t *testing.T) {
	play(t, 2, func(sc *scene) {
		all := entered(sc)
		a, b := all[0], all[1]
		other := sc.nodes[0].join("other", watches)
		sc.wait(time.Second)
		sc.net.setDelay(time.Second) // a long way, on which nothing is acknowledged soon
		piece := bytes.Repeat([]byte{1}, 16<<10)
		taken, code := 0, protocol.CodeOK
		for ; code == protocol.CodeOK; taken++ {
			piece[0] = byte(taken)
			code = a.m.Send(Message{Kind: KindData, To: "m1", Payload: piece})
			sc.wait(time.Millisecond) // what may go is written
		}
		taken--
		if most := (protocol.DataInFlight + protocol.DataWaiting) / len(piece); code != protocol.CodeFull || taken > most+1 || taken < most-2 {
			t.Errorf("%d were taken, then %v", taken, code)
		}
		if code := other.m.Send(Message{Kind: KindDirect, To: "m1", Payload: []byte("offer")}); code != protocol.CodeOK {
			t.Fatalf("a signal is refused: %v", code)
		}
		sc.wait(time.Minute)
		before, data := 0, b.of(KindData, "m0")
		signal := b.of(KindDirect, "other")
		if len(signal) != 1 {
			t.Fatalf("%d signals came", len(signal))
		}
		for i, d := range data {
			if int(d.Payload[0]) != i {
				t.Errorf("piece %d came as %d", d.Payload[0], i)
			}
			if d.at < signal[0].at {
				before++
			}
		}
		if len(data) != taken || before*len(piece) > protocol.DataInFlight+len(piece) || before == len(data) {
			t.Errorf("%d of %d came, %d before the signal", len(data), taken, before)
		}
	})
}

// Data that waits when its node is gone fails, as what is on its way does.
func TestDataFails(t *testing.T) {
	play(t, 2, func(sc *scene) {
		all := entered(sc)
		sc.net.cut(sc.nodes[0].url, sc.nodes[1].url)
		sc.wait(time.Second)
		const n = 4
		for range n {
			if code := all[0].m.Send(Message{Kind: KindData, To: "m1", Ref: []byte("r"), Payload: make([]byte, 1000)}); code != protocol.CodeOK {
				t.Fatal(code)
			}
		}
		sc.wait(10 * time.Second)
		if got := all[0].of(KindFailed, "m1"); len(got) != n || got[0].Code != protocol.CodeNodeGone {
			t.Errorf("failed: %+v", got)
		}
	})
}
