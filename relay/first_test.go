package relay

import (
	"testing"
	"time"
)

func TestOfferAndAnswerOnOneNode(t *testing.T) {
	play(t, 1, func(sc *scene) {
		a, b := sc.nodes[0].join("a"), sc.nodes[0].join("b")
		a.announce(1)
		offers := b.of(KindOffer, "a")
		if len(offers) != 1 || string(offers[0].Payload) != "sdp of a 1" {
			t.Fatalf("b got %+v, want one offer of a", offers)
		}
		b.answer(offers[0])
		if got := a.of(KindAnswer, "b"); len(got) != 1 || string(got[0].Payload) != "answer to a-1" {
			t.Fatalf("a got %+v, want one answer of b", got)
		}
	})
}

func TestOfferAndAnswerAcrossNodes(t *testing.T) {
	play(t, 2, func(sc *scene) {
		sc.net.setDelay(10 * time.Millisecond)
		a := sc.nodes[0].join("a")
		a.announce(1)
		sc.meet(sc.nodes...)
		sc.wait(time.Second)
		b := sc.nodes[1].join("b")
		b.announce(1)
		sc.wait(2 * time.Second)
		offers := b.of(KindOffer, "a")
		if len(offers) != 1 {
			sc.logLinks()
			t.Fatalf("b got %d offers of a, want 1", len(offers))
		}
		if got := a.of(KindOffer, "b"); len(got) != 1 {
			t.Fatalf("a got %d offers of b, want 1", len(got))
		}
		b.answer(offers[0])
		sc.wait(time.Second)
		if got := a.of(KindAnswer, "b"); len(got) != 1 {
			t.Fatalf("a got %d answers of b, want 1", len(got))
		}
	})
}
