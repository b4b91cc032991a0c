package relay

import (
	"fmt"
	"testing"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// TestIdleLinks: a link is kept for as long as an app is shared and a minute
// longer, but for the few that keep the mesh together.
func TestIdleLinks(t *testing.T) {
	const n = 9
	play(t, n, func(sc *scene) {
		sc.meet(sc.nodes...)
		var members []*client
		for i, nd := range sc.nodes {
			members = append(members, nd.join(fmt.Sprint(i)))
		}
		sc.wait(5 * time.Second)
		most := func() (links int) {
			for _, nd := range sc.nodes {
				links = max(links, nd.r.Stats().Links)
			}
			return links
		}
		if got := most(); got != n-1 {
			t.Fatalf("%d links while an app is shared, want %d", got, n-1)
		}
		for _, c := range members {
			c.m.Leave()
		}
		sc.wait(protocol.LinkLinger - 2*time.Second)
		if got := most(); got != n-1 {
			t.Errorf("%d links before the linger is over, want %d", got, n-1)
		}
		sc.wait(5 * time.Minute)
		all := 0
		for _, nd := range sc.nodes {
			all += nd.r.Stats().Links
			if len(nd.r.swarms) != 0 {
				t.Errorf("node %d keeps %d apps", nd.i, len(nd.r.swarms))
			}
		}
		// Each keeps a few, and is kept by a few.
		if all > n*(protocol.MeshLinks+2) || all < n*2 {
			t.Errorf("%d links in all with nothing shared, want about %d for each of %d nodes", all, protocol.MeshLinks, n)
		}
		// A new member brings them back.
		sc.nodes[0].join("a").announce(1)
		b := sc.nodes[n-1].join("b")
		b.announce(1)
		sc.wait(3 * time.Second)
		if got := b.m.Counts(); got.Incomplete != 2 {
			t.Errorf("b counts %d members, want 2", got.Incomplete)
		}
	})
}
