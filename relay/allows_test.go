package relay

import (
	"testing"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// A node that serves listed apps only refuses every verb in any other, asks no
// node about it, and serves the listed ones as any node does.
func TestOnlyListedApps(t *testing.T) {
	other := protocol.App("test", []byte("other"), nil)
	play(t, 2, func(sc *scene) {
		private, open := sc.nodes[0], sc.nodes[1]
		private.r.cfg.Allows = func(app protocol.AppID) bool { return app == testApp }
		b := open.join("b", func(j *Joining) { j.Subscriber = true })
		there := &client{t: t, id: "o", nd: open, start: time.Now()}
		if _, err := open.r.Join(other, Joining{ID: "o", Sink: there, TakesOffers: true, Subscriber: true}); err != nil {
			t.Fatal(err)
		}
		a := private.join("a")
		sc.meet(sc.nodes...)
		sc.wait(time.Second)
		none := &client{t: t, id: "n", nd: private, start: time.Now()}
		joining := Joining{ID: "n", Sink: none, TakesOffers: true}
		_, joined := private.r.Join(other, joining)
		_, claimed := private.r.Claim(other, Claiming{Joining: joining})
		for verb, err := range map[string]error{"join": joined, "claim": claimed} {
			if codeOf(err) != protocol.CodeDenied {
				t.Errorf("%s: %v", verb, err)
			}
		}
		if code := private.r.Publish(other, "n", []byte("x")); code != protocol.CodeDenied {
			t.Errorf("publish: %v", code)
		}
		if code := private.r.Publish(testApp, "n", []byte("x")); code != protocol.CodeOK {
			t.Errorf("publish in a listed app: %v", code)
		}
		a.announce(1)
		var counts []Counts
		private.r.Scrape([]protocol.AppID{other, testApp}, func(c []Counts) { counts = c })
		sc.wait(time.Second)
		if len(counts) != 2 || counts[0].Incomplete != 0 || counts[1].Incomplete != 2 {
			t.Errorf("scrape: %+v", counts)
		}
		if n := len(b.of(KindPublish, "n")) + len(b.of(KindOffer, "a")); n != 2 {
			t.Errorf("the listed app's member got %d of publish and offer: %+v", n, b.events)
		}
		if len(there.events)+len(none.events) > 0 {
			t.Errorf("in the other app: %+v, %+v", there.events, none.events)
		}
		if s := private.r.Stats(); s.Apps != 1 || s.Members != 1 {
			t.Errorf("%+v", s)
		}
	})
}
