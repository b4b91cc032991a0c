package relay

import (
	"testing"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// TestInspect: what the operator is shown of links and apps, while they come
// and go.
func TestInspect(t *testing.T) {
	play(t, 3, func(sc *scene) {
		a := sc.nodes[0]
		if links, apps := a.r.Links(), a.r.Apps(); len(links) != 0 || len(apps) != 0 {
			t.Errorf("a new node shows %+v and %+v", links, apps)
		}
		other := protocol.App("test", []byte("other"), nil)
		if _, err := a.r.Join(other, Joining{ID: "alone", Sink: new(client), Subscriber: true}); err != nil {
			t.Fatal(err)
		}
		sc.meet(a, sc.nodes[1])
		a.join("a1")
		a.join("a2", func(j *Joining) { j.Seeder = true })
		b := sc.nodes[1].join("b")
		sc.nodes[1].join("a1") // on both nodes: counted once
		sc.wait(10 * time.Second)
		links := a.r.Links()
		if len(links) != 1 {
			t.Fatalf("%d links, want 1", len(links))
		}
		l := links[0]
		if l.Node != sc.nodes[1].r.ID() || !l.Up || l.Apps != 1 || l.Draining || l.Waiting != 0 || len(l.URLs) != 1 || l.URLs[0] != sc.nodes[1].url {
			t.Errorf("link %+v", l)
		}
		if l.Dialled == sc.nodes[1].r.Links()[0].Dialled {
			t.Errorf("both or neither say that they dialled: %v", l.Dialled)
		}
		if l.Since < 9*time.Second || l.Since > 10*time.Second {
			t.Errorf("up for %v, want nearly 10 s", l.Since)
		}
		want := []AppInfo{
			{App: testApp, Members: 2, Seeders: 1, Elsewhere: 1, Nodes: 1},
			{App: other, Members: 1, Subscribers: 1},
		}
		apps := a.r.Apps()
		if len(apps) != 2 || apps[0] != want[0] || apps[1] != want[1] {
			t.Errorf("apps %+v, want %+v", apps, want)
		}
		b.m.Leave()
		sc.nodes[1].r.Drain(t.Context())
		sc.wait(time.Second)
		if l := a.r.Links()[0]; !l.Draining {
			t.Errorf("a node that said goodbye: %+v", l)
		}
		sc.nodes[1].kill()
		sc.wait(2 * time.Second)
		if l := a.r.Links()[0]; l.Up || l.Since < time.Second || l.Since > 3*time.Second {
			t.Errorf("a node that is gone: %+v", l)
		}
		if apps := a.r.Apps(); len(apps) != 2 || apps[0].Members != 2 {
			t.Errorf("apps %+v", apps)
		}
	})
}
