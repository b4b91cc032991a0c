package door

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/gorilla/websocket"

	"github.com/peerservers/peerserver/protocol"
)

// letters is a door whose clients' messages begin with its name. Its sessions
// say who they are.
type letters struct {
	name string
	s    *scene
}

func (l *letters) Name() string                 { return l.name }
func (l *letters) Register(_, _ *http.ServeMux) {}
func (l *letters) Stats() any                   { return nil }
func (l *letters) Recognise(first []byte) bool  { return bytes.HasPrefix(first, []byte(l.name)) }
func (l *letters) Deny(c *Conn, reason string) {
	(&echo{c: c}).Message([]byte(l.name + " denies: " + reason))
}

func (l *letters) Open(c *Conn) Session {
	e := &echo{c: c}
	l.s.mu.Lock()
	l.s.sessions = append(l.s.sessions, e)
	l.s.mu.Unlock()
	e.Message([]byte("opened by " + l.name))
	time.Sleep(100 * time.Microsecond) // in which it is swept
	return e
}

// atRoot has the doors a, b and z serve /root; z is the last.
func (s *scene) atRoot(names ...string) {
	doors := make([]Rooted, len(names))
	for i, name := range names {
		doors[i] = &letters{name, s}
	}
	s.mu.Lock()
	s.root = s.host.Root(doors)
	s.mu.Unlock()
}

func (s *scene) dialRoot() *websocket.Conn {
	s.t.Helper()
	ws, _, err := insecure.Dial(s.url+"/root", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { ws.Close() })
	ws.SetReadDeadline(time.Now().Add(patience))
	return ws
}

// The first message says which door a client means, and what follows goes there
// whatever it looks like. The last door gets what nobody recognises.
func TestRoot(t *testing.T) {
	for _, over := range []way{overFront, overHTTP, overTLS} {
		s := serve(t, Config{}, over)
		s.atRoot("a", "b", "z")
		for first, want := range map[string]string{"a1": "a", "b1": "b", "z1": "z", "": "z", "garbage": "z", "\xff\x00": "z", " a": "z", "ba": "b"} {
			ws := s.dialRoot()
			if err := ws.WriteMessage(websocket.BinaryMessage, []byte(first)); err != nil {
				t.Fatal(err)
			}
			if got := hear(t, ws); got != "opened by "+want {
				t.Fatalf("%q: %s", first, got)
			}
			if got := hear(t, ws); got != first {
				t.Errorf("%q: the door got %q", first, got)
			}
			for _, next := range []string{"z2", "a2", "b2"} {
				say(t, ws, next)
				if got := hear(t, ws); got != next {
					t.Errorf("%q: then %q", first, got)
				}
			}
		}
	}
}

// A client that is refused before it said what it means gets the last door's
// words, and stays with it.
func TestRootRefuses(t *testing.T) {
	s := serve(t, Config{Quota: Quota{MessageBurst: 3, Messages: 1}}, overFront)
	s.atRoot("a", "z")
	ws := s.dialRoot()
	say(t, ws, strings.Repeat("a", protocol.MaxMessage+1))
	if got := hear(t, ws) + ", " + hear(t, ws); got != "opened by z, refused too_large" {
		t.Errorf("got %s", got)
	}
	say(t, ws, "a")
	if got := hear(t, ws); got != "a" || s.count() != 1 {
		t.Errorf("got %s, of %d sessions", got, s.count())
	}
	for range 5 {
		if ws.WriteMessage(websocket.TextMessage, []byte("a")) != nil {
			break // it is closed already
		}
	}
	closedWith(t, ws, protocol.CloseTryAgainLater)
}

// Who says nothing belongs to no door, and costs none a session.
func TestRootOfTheSilent(t *testing.T) {
	s := serve(t, Config{}, overFront)
	s.atRoot("a", "z")
	ws := s.dialRoot()
	eventually(t, func() bool { return s.host.Stats().Clients == 1 }, "no client")
	for _, c := range s.host.all() {
		c.sweep(time.Now())
	}
	ws.Close()
	eventually(t, func() bool { return s.host.Stats().Clients == 0 }, "the client stays")
	if s.count() != 0 {
		t.Error("a door has opened a session")
	}
}

// Without doors, and where a client may not come, it is told so and closed.
func TestRootCloses(t *testing.T) {
	s := serve(t, Config{}, overFront)
	s.atRoot()
	var word string
	if got := s.turnedAway("/root", nil, &word); !strings.Contains(got, "no door of this node is at /") {
		t.Errorf("closed with %q", got)
	}
	s = serve(t, Config{Tokens: []string{"0123456789abcdef"}}, overFront)
	s.atRoot("a", "z")
	if got := s.turnedAway("/root", nil, &word); got != deniedToken || word != "z denies: "+deniedToken {
		t.Errorf("closed with %q after %q", got, word)
	}
}

// Clients are swept, pinged and closed while they say what they mean.
func TestRootIsSwept(t *testing.T) {
	s := serve(t, Config{}, overFront)
	s.atRoot("a", "b", "z")
	var all sync.WaitGroup
	done := make(chan struct{})
	var sweeping sync.WaitGroup
	sweeping.Go(func() { // as Serve does, which sweeps once in 5 s
		for {
			select {
			case <-done:
				return
			default:
				for _, c := range s.host.all() {
					c.sweep(time.Now())
				}
			}
		}
	})
	for i := range 8 {
		all.Go(func() {
			for j := range 25 {
				ws, _, err := insecure.Dial(s.url+"/root", nil)
				if err != nil {
					t.Error(err)
					return
				}
				first := fmt.Sprint([]string{"a", "b", "x"}[(i+j)%3], i, j)
				if ws.WriteMessage(websocket.TextMessage, []byte(first)) != nil {
					t.Error("closed")
				}
				ws.SetReadDeadline(time.Now().Add(patience))
				for _, want := range []string{"opened by " + []string{"a", "b", "z"}[(i+j)%3], first} {
					if _, got, err := ws.ReadMessage(); err != nil || string(got) != want {
						t.Errorf("%s: %q, %v", first, got, err)
					}
				}
				ws.Close()
			}
		})
	}
	all.Wait()
	close(done)
	sweeping.Wait()
	eventually(t, func() bool { return s.host.Stats().Clients == 0 }, "clients stay")
}

// There are many Conns, so their size is looked after: a size class of the
// allocator.
func TestConnIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(Conn{}); n > 192 {
		t.Errorf("a Conn has %d bytes", n)
	}
}

func TestPlaces(t *testing.T) {
	var p Places
	for range 3 {
		if !p.Take() {
			t.Error("the zero value has no room")
		}
	}
	p = Places{Max: 2}
	for i := range 4 {
		if p.Take() != (i < 2) {
			t.Errorf("place %d of 2", i+1)
		}
	}
	p.Free()
	if !p.Take() || p.Take() {
		t.Error("a place that was freed is not one")
	}
	if taken, full := p.Count(); taken != 2 || full != 3 {
		t.Errorf("%d taken, %d turned away", taken, full)
	}
}
