package ywebrtc

import (
	"fmt"
	"testing"
	"time"

	"github.com/peerservers/peerserver/node/door/topics"
)

// step is a copy of one publish, at a time in milliseconds.
type step struct {
	at     int
	origin uint64
	pass   bool
}

func TestDoubles(t *testing.T) {
	for name, steps := range map[string][]step{
		"once":                          {{0, 1, true}},
		"by two sockets":                {{0, 1, true}, {5, 2, false}},
		"by three":                      {{0, 1, true}, {5, 2, false}, {7, 3, false}},
		"again by the same":             {{0, 1, true}, {0, 1, true}, {2000, 1, true}},
		"again by two":                  {{0, 1, true}, {5, 2, false}, {1500, 1, true}, {1505, 2, false}},
		"again, the other way round":    {{0, 1, true}, {5, 2, false}, {1500, 2, true}, {1505, 1, false}},
		"by the other one alone":        {{0, 1, true}, {5, 2, false}, {1500, 2, true}, {2900, 2, true}},
		"more of the other one":         {{0, 1, true}, {5, 2, false}, {6, 2, false}, {900, 2, false}},
		"later, by the other one alone": {{0, 1, true}, {3000, 2, true}},
		"much later":                    {{0, 1, true}, {90_000, 2, true}, {90_001, 1, false}},
	} {
		d, zero := newDoubles(), time.Now()
		for i := range uint64(4) {
			d.opened(i)
		}
		for i, s := range steps {
			now := zero.Add(time.Duration(s.at) * time.Millisecond)
			if got := d.passSocket(7, s.origin, now); got != s.pass {
				t.Errorf("%s: step %d by a socket passes: %v", name, i, got)
			}
			if got := d.passNode(8, s.origin, now); got != s.pass {
				t.Errorf("%s: step %d by a node passes: %v", name, i, got)
			}
		}
	}
}

func TestDoublesOfASocketThatIsGone(t *testing.T) {
	d, now := newDoubles(), time.Now()
	d.opened(1)
	d.opened(2)
	if !d.passSocket(7, 1, now) || d.passSocket(7, 2, now) {
		t.Fatal("the second copy passes")
	}
	d.closed(1)
	if !d.passSocket(7, 2, now) {
		t.Error("it is dropped for the sake of a socket that is gone")
	}
}

// Only who was given the first copy does without the second.
func TestDoubleOfASubscriber(t *testing.T) {
	d, now := newDoubles(), time.Now()
	one, two := d.forSubscriber(7, new(topics.Subscription)), d.forSubscriber(7, new(topics.Subscription))
	if !d.passNode(one, 1, now) || d.passNode(one, 2, now) {
		t.Error("who was given it is given it again")
	}
	if !d.passNode(two, 2, now) || d.passNode(two, 1, now) {
		t.Error("who was not given it is not given it now")
	}
}

// What is remembered is bounded, by number and by time.
func TestDoublesAreBounded(t *testing.T) {
	d, now := newDoubles(), time.Now()
	for i := range uint64(10 * maxDoubles) {
		d.passNode(i, 1, now)
	}
	if n := len(d.young) + len(d.old); n > 2*maxDoubles {
		t.Errorf("%d are remembered", n)
	}
	if d.passNode(10*maxDoubles-1, 2, now) {
		t.Error("the newest is forgotten")
	}
	d.passNode(1, 1, now.Add(2*doublesFor))
	if n := len(d.young) + len(d.old); n != 1 {
		t.Errorf("%d are remembered of long ago", n)
	}
}

func TestDoublesTellApart(t *testing.T) {
	d := newDoubles()
	seen := make(map[uint64]string)
	for _, p := range [][3]string{{"a", "b", "c"}, {"ab", "", "c"}, {"", "ab", "c"}, {"a", "bc", ""}, {"a", "b", ""}} {
		for kind, of := range map[string]func(string, string, []byte) uint64{"sockets": d.ofSockets, "nodes": d.ofNodes} {
			h, name := of(p[0], p[1], []byte(p[2])), fmt.Sprint(kind, p)
			if seen[h] != "" {
				t.Errorf("%s and %s are the same", name, seen[h])
			}
			seen[h] = name
		}
	}
}
