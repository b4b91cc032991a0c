package relay

import (
	"crypto/ed25519"
	"fmt"
	"sync"
	"testing"
	"time"
)

// A member with another id gets each publish once, is known to other nodes by
// its new id, and has joined when it did.
func TestRename(t *testing.T) {
	play(t, 2, func(sc *scene) {
		sc.meet(sc.nodes...)
		speaker := sc.nodes[1].join("speaker", subscriberWho(true))
		a := sc.nodes[0].join("before", subscriberWho(true))
		sc.wait(time.Second)
		for n := range 20 {
			if n == 10 {
				if err := a.m.Rename("after"); err != nil {
					t.Fatal(err)
				}
			}
			sc.nodes[n%2].r.Publish(testApp, "speaker", fmt.Appendf(nil, "%d", n))
		}
		sc.wait(time.Second)
		for n, e := range a.of(KindPublish, "") {
			if len(e.Payload) == 0 || e.Count != 2 {
				t.Errorf("publish %d is %+v", n, e)
			}
		}
		if n := len(a.of(KindPublish, "")); n != 20 {
			t.Errorf("%d of 20 publishes came", n)
		}
		if id := a.m.ID(); id != "after" {
			t.Errorf("it is %q", id)
		}
		for to, want := range map[string]int{"after": 1, "before": 0} {
			speaker.m.Send(Message{Kind: KindDirect, To: to, Payload: []byte("to " + to)})
			sc.wait(time.Second)
			if n := len(a.of(KindDirect, "speaker")); n != want {
				t.Errorf("%d messages to %q came", n, to)
			}
			a.mu.Lock()
			a.events = nil
			a.mu.Unlock()
		}
		if sc.nodes[0].r.Stats().Members != 1 {
			t.Error("it is counted twice")
		}
	})
}

// Who has the id here is replaced, and who has it on another node gets no more
// publishes if it joined first.
func TestRenameToAnIDInUse(t *testing.T) {
	play(t, 3, func(sc *scene) {
		sc.meet(sc.nodes...)
		elsewhere := sc.nodes[1].join("x", subscriberWho(true))
		old := sc.nodes[0].join("x", subscriberWho(true))
		sc.wait(time.Second)
		a := sc.nodes[0].join("a", subscriberWho(true))
		sc.wait(20 * time.Millisecond)
		if err := a.m.Rename("x"); err != nil {
			t.Fatal(err)
		}
		sc.wait(200 * time.Millisecond) // other nodes are told at once
		if len(old.of(KindReplaced, "")) != 1 {
			t.Error("who had the id is not told")
		}
		sc.nodes[2].r.Publish(testApp, "speaker", []byte("hi"))
		sc.wait(time.Second)
		if n, o, e := len(a.of(KindPublish, "")), len(old.of(KindPublish, "")), len(elsewhere.of(KindPublish, "")); n != 1 || o+e != 0 {
			t.Errorf("%d, and where it was before %d and %d", n, o, e)
		}
		if err := old.m.Rename("y"); err == nil {
			t.Error("who has been replaced is given an id")
		}
		a.m.Leave()
		if err := a.m.Rename("z"); err == nil {
			t.Error("who has left is given an id")
		}
		if err := elsewhere.m.Rename(""); err == nil {
			t.Error("the empty id is taken")
		}
	})
}

// Other nodes are told of the new id at once: until then one that has it too
// would be given everything as well.
func TestRenameIsTold(t *testing.T) {
	play(t, 2, func(sc *scene) {
		sc.meet(sc.nodes...)
		elsewhere := sc.nodes[1].join("x", subscriberWho(true))
		sc.nodes[0].join("other", subscriberWho(true))
		sc.wait(time.Second)
		a := sc.nodes[0].join("a", subscriberWho(true)) // which is told at once too
		sc.wait(20 * time.Millisecond)
		if err := a.m.Rename("x"); err != nil {
			t.Fatal(err)
		}
		sc.wait(200 * time.Millisecond)
		sc.nodes[0].r.Publish(testApp, "speaker", []byte("hi"))
		sc.wait(time.Second)
		if n, e := len(a.of(KindPublish, "")), len(elsewhere.of(KindPublish, "")); n != 1 || e != 0 {
			t.Errorf("%d, and %d elsewhere", n, e)
		}
	})
}

// tally counts what a member gets.
type tally struct{ n int }

func (c *tally) Deliver(e *Event) bool { // under the swarm's lock
	if e.Kind == KindPublish {
		c.n++
	}
	return true
}

// Members change their ids while publishes come: each gets all of them, once.
func TestRenameWhileOthersPublish(t *testing.T) {
	_, key, _ := ed25519.GenerateKey(nil)
	r, err := New(Config{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	const members, publishes = 100, 10_000
	var all [members]tally
	var joined [members]*Member
	for i := range all {
		if joined[i], err = r.Join(testApp, Joining{ID: fmt.Sprint(i), Sink: &all[i], TakesOffers: true, Subscriber: true}); err != nil {
			t.Fatal(err)
		}
	}
	var both sync.WaitGroup
	done := make(chan struct{})
	both.Go(func() {
		defer close(done)
		for range publishes {
			r.Publish(testApp, "speaker", []byte("hi"))
		}
	})
	both.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-done:
				return
			default:
			}
			if err := joined[n%members].Rename(fmt.Sprint("again ", n)); err != nil {
				t.Error(err)
			}
		}
	})
	both.Wait()
	for i := range all {
		if all[i].n != publishes {
			t.Errorf("member %d was given %d of %d", i, all[i].n, publishes)
		}
	}
}
