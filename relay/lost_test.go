package relay

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

func watches(j *Joining) {
	j.Present, j.WantsPresence, j.Subscriber, j.Blob = true, true, true, []byte("blob of "+j.ID)
}

// entered is n nodes with one member each, that know each other.
func entered(sc *scene) (all []*client) {
	sc.net.setDelay(20 * time.Millisecond)
	sc.meet(sc.nodes...)
	for i, nd := range sc.nodes {
		all = append(all, nd.join(fmt.Sprint("m", i), watches))
		sc.wait(2 * time.Second)
	}
	return all
}

// wasTold counts what a member was told of another, by kind.
func (c *client) wasTold(id string) (n [KindReplaced + 1]int) {
	for k := range n {
		n[k] = len(c.of(Kind(k), id))
	}
	return n
}

// A member that joins anew on its node is not news. When it leaves, all are
// told, and those who come are shown what it says of itself now.
func TestJoinsAnewAndLeaves(t *testing.T) {
	play(t, 2, func(sc *scene) {
		all := entered(sc)
		before := all[1].wasTold("m0")
		again := sc.nodes[0].join("m0", watches, func(j *Joining) { j.Blob = []byte("renewed") })
		sc.wait(time.Second)
		if err := all[1].m.Show([]byte("shown")); err != nil {
			t.Fatal(err)
		}
		sc.wait(time.Second)
		if got := all[1].wasTold("m0"); got != before {
			t.Errorf("m1 was told %v, before %v", got, before)
		}
		for i, nd := range sc.nodes {
			late := nd.join(fmt.Sprint("late", i), watches)
			if list, n := late.m.Sample(10); n != 2+i || !hasInfo(list, "m0", "renewed", sc.nodes[0].r.self) || !hasInfo(list, "m1", "shown", sc.nodes[1].r.self) {
				t.Errorf("late on node %d was shown %d: %q", i, n, list)
			}
			sc.wait(time.Second)
		}
		again.m.Leave()
		sc.wait(time.Second)
		if n := len(all[1].of(KindLeft, "m0")); n != 1 {
			t.Errorf("m1 was told %d times that m0 left", n)
		}
		if err := again.m.Show(nil); code(err) != protocol.CodeUnknownPeer {
			t.Errorf("one that has left is shown: %v", err)
		}
	})
}

func hasInfo(list []Info, id, blob string, node protocol.NodeID) bool {
	for _, i := range list {
		if i.ID == id && string(i.Blob) == blob && i.Node == node {
			return true
		}
	}
	return false
}

// Who comes is shown with the node that it is on.
func TestPresenceNames(t *testing.T) {
	play(t, 2, func(sc *scene) {
		all := entered(sc)
		here := sc.nodes[0].join("here", watches)
		sc.wait(time.Second)
		for from, node := range map[string]protocol.NodeID{"m1": sc.nodes[1].r.self, here.id: sc.nodes[0].r.self} {
			if got := all[0].of(KindJoined, from); len(got) != 1 || !bytes.Equal(got[0].Ref, node[:]) {
				t.Errorf("m0 was told of %s: %+v", from, got)
			}
		}
	})
}

// Of a large swarm a random part is shown, and all are counted.
func TestSample(t *testing.T) {
	play(t, 1, func(sc *scene) {
		for i := range 40 {
			sc.nodes[0].join(fmt.Sprint("m", i), watches)
		}
		c := sc.nodes[0].join("c", watches)
		seen := make(map[string]bool)
		for range 100 {
			list, n := c.m.Sample(5)
			distinct := make(map[string]bool)
			for _, i := range list {
				seen[i.ID], distinct[i.ID] = true, true
			}
			if n != 40 || len(distinct) != 5 {
				t.Fatalf("%d of %d are shown", len(distinct), n)
			}
		}
		if len(seen) != 40 {
			t.Errorf("%d were ever shown", len(seen))
		}
	})
}

// A member that is lost is shown as lost on all nodes. What it took and did not
// get fails to who sent it, here and elsewhere, long after the link has
// forgotten it.
func TestLost(t *testing.T) {
	play(t, 2, func(sc *scene) {
		all := entered(sc)
		here := sc.nodes[0].join("here", watches)
		lost := sc.nodes[0].join("lost", watches)
		sc.wait(time.Second)
		for _, from := range []*client{all[1], here} {
			if code := from.m.Send(Message{Kind: KindDirect, To: "lost", Ref: []byte("ref of " + from.id), Payload: []byte("x")}); code != protocol.CodeOK {
				t.Fatal(code)
			}
		}
		sc.wait(time.Minute)
		var failed []Undelivered
		for _, e := range lost.of(KindDirect, "") {
			failed = append(failed, Undelivered{e.From, e.Ref})
		}
		lost.m.Lose(failed)
		sc.wait(time.Second)
		for _, from := range []*client{all[1], here} {
			got := from.of(KindFailed, "lost")
			if len(got) != 1 || string(got[0].Ref) != "ref of "+from.id || got[0].Code != protocol.CodeUnknownPeer {
				t.Errorf("%s was told %+v", from.id, got)
			}
			if l, n := len(from.of(KindLost, "lost")), len(from.of(KindLeft, "lost")); l != 1 || n != 0 {
				t.Errorf("%s was told %d times that it is lost, %d that it left", from.id, l, n)
			}
		}
	})
}

// A member that has joined on another node before is not lost: nobody is told,
// and trying again helps.
func TestLostHereThereElsewhere(t *testing.T) {
	play(t, 3, func(sc *scene) {
		all := entered(sc)
		old := sc.nodes[0].join("moves", watches)
		sc.wait(time.Second)
		all[2].m.Send(Message{Kind: KindDirect, To: "moves", Ref: []byte("r"), Payload: []byte("x")})
		sc.wait(time.Second)
		moved := sc.nodes[1].join("moves", watches)
		sc.wait(time.Second)
		old.m.Lose([]Undelivered{{From: "m2", Ref: []byte("r")}})
		sc.wait(10 * time.Second)
		for _, c := range all {
			if n := c.wasTold("moves"); n[KindJoined]+n[KindPresent] != 1 || n[KindLost]+n[KindLeft] != 0 {
				t.Errorf("%s was told %v", c.id, n)
			}
		}
		if got := all[2].of(KindFailed, "moves"); len(got) != 1 || got[0].Code != protocol.CodeNodeGone {
			t.Errorf("its sender was told %+v", got)
		}
		all[2].m.Send(Message{Kind: KindDirect, To: "moves", Payload: []byte("again")})
		sc.wait(time.Second)
		if n := len(moved.of(KindDirect, "m2")); n != 1 {
			t.Errorf("it got %d at its new place", n)
		}
	})
}

// A node cannot say of a member of another one that it does not exist.
func TestFailLateOfOthers(t *testing.T) {
	play(t, 3, func(sc *scene) {
		all := entered(sc)
		s := sc.nodes[0].r.swarms[testApp]
		s.mu.Lock()
		s.failLate(&Member{id: "m2"}, Undelivered{From: "m1", Ref: []byte("r")}, protocol.CodeUnknownPeer)
		s.mu.Unlock()
		sc.wait(time.Second)
		if got := all[1].of(KindFailed, ""); len(got) != 0 {
			t.Errorf("m1 was told %+v", got)
		}
	})
}

// A client that is on two nodes does not hear itself.
func TestPublishNotToOneself(t *testing.T) {
	play(t, 2, func(sc *scene) {
		all := entered(sc)
		twin := sc.nodes[1].join("m0", watches)
		sc.wait(time.Second)
		all[0].m.Publish([]byte("hello"))
		sc.wait(time.Second)
		if n := len(twin.of(KindPublish, "")) + len(all[0].of(KindPublish, "")); n != 0 {
			t.Errorf("it heard itself %d times", n)
		}
		if n := len(all[1].of(KindPublish, "m0")); n != 1 {
			t.Errorf("the other heard it %d times", n)
		}
		if n := sc.nodes[0].r.Audience(testApp); n != 3 {
			t.Errorf("the audience is %d", n)
		}
	})
}
