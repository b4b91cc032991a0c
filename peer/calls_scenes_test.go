package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/peerservers/peerserver/testnet"
)

func (s *someone) handles(path string, h Handler) {
	s.t.Helper()
	if _, err := s.Handle(path, h); err != nil {
		s.t.Fatal(err)
	}
}

// peer is the one of a name.
func (s *someone) peer(name string) *Peer {
	s.t.Helper()
	s.sees("+" + name)
	list := s.Peers()
	i := slices.IndexFunc(list, func(p *Peer) bool { return p.Name() == name })
	if i < 0 {
		s.t.Fatalf("%s is gone", name)
	}
	return list[i]
}

// TestCallsOverTwoNodes: one, some, those of a name and all, of whom one has
// gone.
func TestCallsOverTwoNodes(t *testing.T) {
	nodes := testnet.Start(t, 2)
	alice := join(t, "alice", Options{Nodes: []string{nodes.URL(0)}, NoRelay: true})
	everybody := []*someone{alice}
	for i, name := range []string{"printer", "printer", "bob", "carol"} {
		s := join(t, name, Options{Nodes: []string{nodes.URL(i % 2)}, NoRelay: true})
		s.handles("whoami", func(_ context.Context, q *Request) (any, error) { return name + " answers " + q.Peer.Name(), nil })
		everybody = append(everybody, s)
	}
	eventually(t, "all are connected", func() bool {
		return !slices.ContainsFunc(everybody, func(s *someone) bool { return len(s.Peers()) != 4 })
	})
	bob, carol := alice.peer("bob"), alice.peer("carol")
	v, err := bob.Call(t.Context(), "whoami", nil)
	if err != nil || text(v) != `"bob answers alice"` {
		t.Fatalf("%q %v", text(v), err)
	}
	everybody[3].leave()
	alice.sees("-bob")
	for _, c := range []struct {
		name string
		to   Target
		want string
	}{
		{"all", All(), "carol printer printer"},
		{"some, and one of them gone", Some(bob, carol, carol, nil), "bob:gone carol"},
		{"those of a name", Named("printer"), "printer printer"},
		{"one who has gone", Some(bob), "bob:gone"},
		{"nobody of the name", Named("bob"), ""},
		{"nobody", Target{}, ""},
	} {
		var got []string
		for p, o := range alice.Call(t.Context(), c.to, "whoami", nil) {
			switch {
			case errors.Is(o.Err, ErrGone):
				got = append(got, p.Name()+":gone")
			case o.Err != nil || text(o.Value) != fmt.Sprintf("%q", p.Name()+" answers alice"):
				t.Errorf("%s: %s answers %q and %v", c.name, p.Name(), text(o.Value), o.Err)
			default:
				got = append(got, p.Name())
			}
		}
		if slices.Sort(got); strings.Join(got, " ") != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	var list []struct{ ID, Session, Name, Path string }
	v, err = carol.Call(t.Context(), commandPeers, nil)
	if err != nil || v.Decode(&list) != nil || len(list) != 3 {
		t.Fatalf("%q %v", text(v), err)
	}
	self := alice.Session()
	for _, p := range list {
		if p.Path != "direct" || p.Name == "alice" && (p.ID != alice.ID().String() || p.Session != fmt.Sprintf("%x", self[:])) {
			t.Errorf("carol is connected to %+v", p)
		}
	}
}

// TestCallsOfEveryKind over one connection: large values, streams, progress,
// errors, and calls that end early.
func TestCallsOfEveryKind(t *testing.T) {
	nodes := testnet.Start(t, 2)
	alice := join(t, "alice", Options{Nodes: []string{nodes.URL(0)}})
	bob := join(t, "bob", Options{Nodes: []string{nodes.URL(1)}})
	ended := make(chan error, 16)
	bob.handles("wait", func(ctx context.Context, q *Request) (any, error) {
		if err := q.Progress("waiting"); err != nil {
			return nil, err
		}
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	})
	bob.handles("refuse", func(context.Context, *Request) (any, error) {
		return nil, &RemoteError{"no_ink", "the printer is dry", Value{JSON: []byte(`{"color":"cyan"}`)}}
	})
	var sent, taken, most atomic.Int64
	bob.handles("count", func(_ context.Context, q *Request) (any, error) {
		for i := range 10_000 {
			if err := q.Send(i); err != nil {
				return nil, err
			}
			highest(&most, sent.Add(1)-taken.Load())
		}
		return "end", nil
	})
	p := alice.peer("bob")

	t.Run("900 KB", func(t *testing.T) {
		big := bytes.Repeat([]byte("peerserver"), 90_000)
		if v, err := p.Call(t.Context(), commandEcho, big); err != nil || !bytes.Equal(v.Bytes, big) {
			t.Errorf("%d bytes came back, and %v", v.size(), err)
		}
	})
	t.Run("a remote error", func(t *testing.T) {
		_, err := p.Call(t.Context(), "refuse", nil)
		e, ok := errors.AsType[*RemoteError](err)
		if !ok || e.Code != "no_ink" || e.Text != "the printer is dry" || string(e.Data.JSON) != `{"color":"cyan"}` {
			t.Errorf("%#v", err)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		if _, err := p.Call(ctx, "wait", nil, OnProgress(func(Value) { cancel() })); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the handler: %v", err)
		}
	})
	t.Run("too late", func(t *testing.T) {
		began := false
		for within := 50 * time.Millisecond; !began; within *= 2 { // until the handler has begun by then
			ctx, cancel := context.WithTimeout(t.Context(), within)
			_, err := p.Call(ctx, "wait", nil, OnProgress(func(Value) { began = true }))
			if cancel(); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("%v", err)
			}
		}
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the handler: %v", err)
		}
	})
	t.Run("a stream with a slow consumer", func(t *testing.T) {
		i := 0
		for v, err := range p.Stream(t.Context(), "count", nil) {
			if err != nil || i < 10_000 && text(v) != fmt.Sprint(i) || i == 10_000 && text(v) != `"end"` {
				t.Fatalf("%q %v, want %d", text(v), err, i)
			}
			if i%1000 == 0 {
				time.Sleep(20 * time.Millisecond) // the handler could be far ahead by then
			}
			taken.Add(1)
			i++
		}
		if i != 10_001 || most.Load() > window+1 {
			t.Errorf("%d values, at most %d on their way", i, most.Load())
		}
	})
	t.Run("one who leaves", func(t *testing.T) {
		_, err := p.Call(t.Context(), "wait", nil, OnProgress(func(Value) { go bob.leave() }))
		if !errors.Is(err, ErrGone) && !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		<-ended
		alice.sees("-bob")
		if _, err := p.Call(t.Context(), commandEcho, nil); !errors.Is(err, ErrGone) {
			t.Errorf("%v, want ErrGone", err)
		}
	})
}

// TestStreamGoesOver: a stream that begins over nodes goes on when there is a
// direct way.
func TestStreamGoesOver(t *testing.T) {
	t.Parallel()
	nodes := testnet.Start(t, 2)
	g := new(gate)
	alice := join(t, "alice", Options{Nodes: []string{nodes.URL(0)}, API: g.api()})
	bob := join(t, "bob", Options{Nodes: []string{nodes.URL(1)}, API: g.api()})
	stop := make(chan struct{})
	bob.handles("count", func(_ context.Context, q *Request) (any, error) {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return "end", nil
			default:
			}
			if err := q.Send(i); err != nil {
				return nil, err
			}
		}
	})
	p := alice.peer("bob")
	if p.Path() != PathNodes {
		t.Fatalf("the path is %v", p.Path())
	}
	i, after := 0, 0
	for v, err := range p.Stream(t.Context(), "count", nil) {
		if err != nil || text(v) != fmt.Sprint(i) && text(v) != `"end"` {
			t.Fatalf("%q %v, want %d", text(v), err, i)
		}
		if i++; i == 100 {
			g.open.Store(true)
		}
		if p.Path() == PathDirect {
			if after++; after == 1000 {
				close(stop)
			}
		}
	}
	if after < 1000 {
		t.Errorf("%d values came directly", after)
	}
}
