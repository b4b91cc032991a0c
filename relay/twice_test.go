package relay

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

func subscriberWho(counts bool) func(*Joining) {
	return func(j *Joining) { j.Subscriber, j.WantsCount = true, counts }
}

// TestPublishToAClientOnTwoNodes: it is given once, whichever was first and
// however long the links are, and goes on where it still is.
func TestPublishToAClientOnTwoNodes(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for round := range 16 {
		play(t, 3, func(sc *scene) {
			sc.meet(sc.nodes...)
			speaker := sc.nodes[2].join("speaker", subscriberWho(true))
			for _, nd := range sc.nodes {
				nd.join(fmt.Sprint("other", nd.i), subscriberWho(true))
			}
			sc.wait(5 * time.Second)
			for i, a := range sc.nodes {
				for _, b := range sc.nodes[:i] {
					sc.net.setPairDelay(a.url, b.url, time.Duration(1+rnd.IntN(100))*time.Millisecond)
				}
			}
			one := sc.nodes[round%2].join("twice", subscriberWho(true))
			time.Sleep(time.Duration(rnd.IntN(300)) * time.Millisecond * time.Duration(round%3))
			two := sc.nodes[1-round%2].join("twice", subscriberWho(true))
			sc.wait(time.Second)
			for range 3 {
				sc.nodes[2].r.Publish(testApp, "speaker", []byte("hi"))
			}
			sc.wait(time.Second)
			a, b := one.of(KindPublish, "speaker"), two.of(KindPublish, "speaker")
			if len(a)+len(b) != 3 || (len(a) > 0 && len(b) > 0) {
				t.Fatalf("round %d: %d here, %d there", round, len(a), len(b))
			}
			for _, e := range append(a, b...) {
				if e.Count != 5 {
					t.Errorf("a client counted as on two nodes: %d subscribers", e.Count)
				}
				if string(e.Ref) != string(protocolID(sc.nodes[2])) {
					t.Errorf("a publish that came from %x", e.Ref)
				}
			}
			if n := len(speaker.of(KindPublish, "speaker")); n != 3 {
				t.Errorf("who publishes is given %d of its own", n)
			}
			gone, stays := one, two
			if len(a) == 0 {
				gone, stays = two, one
			}
			gone.m.Leave()
			sc.wait(time.Second)
			sc.nodes[2].r.Publish(testApp, "speaker", []byte("hi"))
			sc.wait(time.Second)
			if n := len(stays.of(KindPublish, "speaker")); n != 1 {
				t.Errorf("round %d: who stayed is given %d", round, n)
			}
		})
	}
}

func protocolID(nd *tnode) []byte { id := nd.r.ID(); return id[:] }

// TestPublishToAMemberThatCameBack: the newest join counts, by far.
func TestPublishToAMemberThatCameBack(t *testing.T) {
	play(t, 2, func(sc *scene) {
		sc.meet(sc.nodes...)
		speaker := sc.nodes[0].join("speaker", subscriberWho(false))
		for i := range 6 {
			nd := sc.nodes[i%2]
			c := nd.join("moves", subscriberWho(false))
			sc.wait(3 * time.Second)
			if code := speaker.m.Publish([]byte("hi")); code != protocol.CodeOK {
				t.Fatal(code)
			}
			sc.wait(time.Second)
			if got := c.of(KindPublish, ""); len(got) != 1 || got[0].Count != 0 {
				t.Errorf("join %d: %v", i, got)
			}
		}
	})
}
