package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// TestValuesThereAndBack: what is given arrives as the same, of every size.
func TestValuesThereAndBack(t *testing.T) {
	one, _, _ := inMemory(t)
	for _, c := range []struct {
		name string
		args any
		want Value
	}{
		{"nothing", nil, Value{}},
		{"no bytes", []byte{}, Value{Bytes: []byte{}}},
		{"nil bytes", []byte(nil), Value{Bytes: []byte{}}},
		{"bytes", []byte{0, 1, 255}, Value{Bytes: []byte{0, 1, 255}}},
		{"JSON", map[string]int{"a": 1}, Value{JSON: []byte(`{"a":1}`)}},
		{"null", (*int)(nil), Value{JSON: []byte("null")}},
		{"a Value", Value{JSON: []byte(`[ 1 ]`)}, Value{JSON: []byte("[ 1 ]")}},
		{"one part", make([]byte, maxPart), Value{Bytes: make([]byte, maxPart)}},
		{"two parts", make([]byte, maxPart+1), Value{Bytes: make([]byte, maxPart+1)}},
		{"all parts", bytes.Repeat([]byte{7}, MaxValue), Value{Bytes: bytes.Repeat([]byte{7}, MaxValue)}},
		{"JSON in parts", strings.Repeat("é", 100_000), Value{JSON: []byte(`"` + strings.Repeat("é", 100_000) + `"`)}},
	} {
		v, err := one.call(t.Context(), commandEcho, c.args, nil)
		if err != nil || (v.JSON == nil) != (c.want.JSON == nil) || (v.Bytes == nil) != (c.want.Bytes == nil) || text(v) != text(c.want) {
			t.Errorf("%s: %d bytes and %v, want %d", c.name, v.size(), err, c.want.size())
		}
	}
	for name, args := range map[string]any{
		"here too_large": make([]byte, MaxValue+1),
		"here malformed": Value{JSON: []byte("{")},
	} {
		if _, err := one.call(t.Context(), commandEcho, args, nil); codeOf(err) != name {
			t.Errorf("%v, want %s", err, name)
		}
	}
	if _, err := one.call(t.Context(), commandEcho, func() {}, nil); codeOf(err) != "here malformed" {
		t.Errorf("a func: %v", err)
	}
	if _, err := one.call(t.Context(), "no path", nil, nil); codeOf(err) != "here malformed" {
		t.Errorf("no path: %v", err)
	}
}

// TestErrorsOfHandlers: what a handler does, and what its caller is told.
func TestErrorsOfHandlers(t *testing.T) {
	one, two, _ := inMemory(t)
	for path, h := range map[string]Handler{
		"plain": func(context.Context, *Request) (any, error) { return 1, errors.New("no \xff ink") },
		"long":  func(context.Context, *Request) (any, error) { return nil, errors.New(strings.Repeat("é", 1000)) },
		"own": func(context.Context, *Request) (any, error) {
			return nil, fmt.Errorf("x: %w", &RemoteError{"jam", "paper", Value{JSON: []byte("[3]")}})
		},
		"bigdata": func(context.Context, *Request) (any, error) {
			return nil, &RemoteError{"jam", "paper", Value{Bytes: make([]byte, maxPart+1)}}
		},
		"nocode":   func(context.Context, *Request) (any, error) { return nil, &RemoteError{} },
		"args":     func(_ context.Context, q *Request) (any, error) { var n int; return nil, q.Args.Decode(&n) },
		"late":     func(context.Context, *Request) (any, error) { return nil, context.DeadlineExceeded },
		"panics":   func(context.Context, *Request) (any, error) { panic("secret") },
		"exits":    func(context.Context, *Request) (any, error) { runtime.Goexit(); return nil, nil },
		"large":    func(context.Context, *Request) (any, error) { return make([]byte, MaxValue+1), nil },
		"nojson":   func(context.Context, *Request) (any, error) { return make(chan int), nil },
		"badjson":  func(context.Context, *Request) (any, error) { return angry{}, nil },
		"noStream": func(_ context.Context, q *Request) (any, error) { return nil, q.Send(1) },
	} {
		two.handle(t, path, h)
	}
	for path, want := range map[string]string{
		"plain": "failed: no \ufffd ink", "long": "failed: " + strings.Repeat("é", maxText/2), "own": "jam: paper", "bigdata": "jam: paper", "nocode": "failed: ",
		"args": "malformed: there is no value where JSON is expected", "late": "timeout: context deadline exceeded",
		"panics": "failed: internal", "exits": "failed: internal", "badjson": "failed: internal",
		"large": "too_large: a value of 1048577 bytes is over 1048576", "nojson": "malformed: this has no JSON: json: unsupported type: chan int",
		"noStream": "malformed: noStream answers with a stream, and was called for one value",
		"nobody":   "unknown_command: there is no command nobody; __list_commands__ tells which there are",
	} {
		_, err := one.call(t.Context(), path, nil, nil)
		e, ok := errors.AsType[*RemoteError](err)
		if !ok || e.Error() != want {
			t.Errorf("%s: %v, want %s", path, err, want)
			continue
		}
		if path == "own" && string(e.Data.JSON) != "[3]" || path == "bigdata" && !e.Data.IsNone() {
			t.Errorf("%s: data is %q", path, text(e.Data))
		}
	}
	if _, err := one.call(t.Context(), "late", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v is no context.DeadlineExceeded", err)
	}
}

type angry struct{}

func (angry) MarshalJSON() ([]byte, error) { panic("secret") }

// TestCommandsOfARoom: they come and go, and those of every room stay.
func TestCommandsOfARoom(t *testing.T) {
	one, two, _ := inMemory(t)
	nothing := func(context.Context, *Request) (any, error) { return nil, nil }
	remove, err := two.cmds.handle(map[string]Handler{"files.get": nothing, "files.put": nothing})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]protocol.Code{
		"files.get": protocol.CodeTaken, commandEcho: protocol.CodeTaken, "": protocol.CodeMalformed, "a b": protocol.CodeMalformed,
		"é": protocol.CodeMalformed, strings.Repeat("a", maxPath+1): protocol.CodeMalformed,
	} {
		var e *protocol.Error
		if _, err := two.cmds.handle(map[string]Handler{path: nothing, "other": nothing}); !errors.As(err, &e) || e.Code != want {
			t.Errorf("%q: %v, want %v", path, err, want)
		}
	}
	if _, err := two.cmds.handle(map[string]Handler{"nil": nil}); err == nil {
		t.Error("a command without a handler")
	}
	var list []string
	all := func() []string {
		v, err := one.call(t.Context(), commandList, nil, nil)
		if err != nil || v.Decode(&list) != nil {
			t.Fatalf("%q: %v", text(v), err)
		}
		return list
	}
	if want := []string{commandEcho, commandList, commandPeers, "files.get", "files.put"}; !slices.Equal(all(), want) {
		t.Errorf("%q, want %q", list, want)
	}
	remove()
	two.handle(t, "files.get", nothing)
	remove() // of what is no longer there
	if want := []string{commandEcho, commandList, commandPeers, "files.get"}; !slices.Equal(all(), want) {
		t.Errorf("%q, want %q", list, want)
	}
}

// TestCallIsCancelled: the handler sees that its caller has given up.
func TestCallIsCancelled(t *testing.T) {
	one, two, _ := inMemory(t)
	runs, ended := make(chan struct{}), make(chan error, 1)
	two.handle(t, "wait", func(ctx context.Context, _ *Request) (any, error) {
		close(runs)
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-runs; cancel() }()
	if _, err := one.call(ctx, "wait", nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the handler: %v", err)
	}
	eventually(t, "nothing is left", func() bool { return one.idle() && two.idle() })
}

// TestCallTimesOut: after 30 s, or with its context.
func TestCallTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two, cut := inMemory(t)
		two.handle(t, "wait", func(ctx context.Context, _ *Request) (any, error) { <-ctx.Done(); return nil, nil })
		began := time.Now()
		if _, err := one.call(t.Context(), "wait", nil, nil); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != callWithin {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		began = time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		for _, err := range one.stream(ctx, "wait", nil, nil) {
			if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Hour {
				t.Errorf("%v after %v", err, time.Since(began))
			}
		}
		synctest.Wait()
		if !one.idle() || !two.idle() {
			t.Error("something is left")
		}
		cut()
	})
}

// TestCallsEndWithTheConnection: calls fail at once, handlers are cancelled and waited for.
func TestCallsEndWithTheConnection(t *testing.T) {
	one, two, cut := inMemory(t)
	runs := make(chan struct{}, 2)
	var over atomic.Int32
	two.handle(t, "wait", func(ctx context.Context, _ *Request) (any, error) {
		runs <- struct{}{}
		<-ctx.Done()
		time.Sleep(10 * time.Millisecond)
		over.Add(1)
		return nil, nil
	})
	errs := make(chan error, 2)
	go func() { _, err := one.call(t.Context(), "wait", nil, nil); errs <- err }()
	go func() {
		for _, err := range one.stream(t.Context(), "wait", nil, nil) {
			errs <- err
		}
	}()
	<-runs
	<-runs
	cut()
	if over.Load() != 2 {
		t.Error("a handler was not waited for")
	}
	for range 2 {
		if err := <-errs; !errors.Is(err, ErrGone) {
			t.Errorf("%v, want ErrGone", err)
		}
	}
	if _, err := one.call(t.Context(), commandEcho, nil, nil); !errors.Is(err, ErrGone) {
		t.Errorf("%v, want ErrGone", err)
	}
}

// TestProgress is told in order, and before the answer.
func TestProgress(t *testing.T) {
	one, two, _ := inMemory(t)
	two.handle(t, "print", func(_ context.Context, q *Request) (any, error) {
		for i := range 5 {
			if err := q.Progress(i); err != nil {
				return nil, err
			}
		}
		if err := q.Progress(make([]byte, maxPart+1)); codeOf(err) != "here too_large" {
			return nil, err
		}
		return "done", nil
	})
	var heard []string
	v, err := one.call(t.Context(), "print", nil, []CallOption{OnProgress(func(v Value) { heard = append(heard, text(v)) })})
	if err != nil || text(v) != `"done"` || strings.Join(heard, " ") != "0 1 2 3 4" {
		t.Errorf("%q %v, after %q", text(v), err, heard)
	}
}

// TestStream: values come in order, the last too if there is one; to stop early
// tells the handler.
func TestStream(t *testing.T) {
	one, two, _ := inMemory(t)
	stopped := make(chan error, 1)
	two.handle(t, "count", func(_ context.Context, q *Request) (any, error) {
		var n int
		if err := q.Args.Decode(&n); err != nil {
			return nil, err
		}
		for i := range n {
			if err := q.Send(i); err != nil {
				stopped <- err
				return nil, err
			}
		}
		if n%2 == 1 {
			return "odd", nil
		}
		return nil, nil
	})
	for n, want := range map[int]string{0: "", 1: `0 "odd"`, 4: "0 1 2 3"} {
		var got []string
		for v, err := range one.stream(t.Context(), "count", n, nil) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, text(v))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
	seen := 0
	for _, err := range one.stream(t.Context(), "count", 1_000_000, nil) {
		if seen++; err != nil || seen == 100 {
			break
		}
	}
	if err := <-stopped; seen != 100 || !errors.Is(err, context.Canceled) {
		t.Errorf("%d values, and the handler was stopped by %v", seen, err)
	}
	for _, err := range one.stream(t.Context(), "count", "x", nil) {
		if codeOf(err) != CodeMalformed {
			t.Errorf("%v", err)
		}
	}
	eventually(t, "nothing is left", func() bool { return one.idle() && two.idle() })
}

// TestStreamWaitsForItsConsumer: of 10,000 values never more than the window
// wait at either side.
func TestStreamWaitsForItsConsumer(t *testing.T) {
	one, two, _ := inMemory(t)
	const n = 10_000
	var sent, taken, most atomic.Int64
	two.handle(t, "count", func(_ context.Context, q *Request) (any, error) {
		for i := range n {
			if err := q.Send(i); err != nil {
				return nil, err
			}
			highest(&most, sent.Add(1)-taken.Load())
		}
		return nil, nil
	})
	i := 0
	for v, err := range one.stream(t.Context(), "count", nil, nil) {
		if i%1000 == 0 {
			time.Sleep(10 * time.Millisecond) // while the other side could run ahead
		}
		if err != nil || text(v) != fmt.Sprint(i) {
			t.Fatalf("%q %v, want %d", text(v), err, i)
		}
		taken.Add(1)
		i++
	}
	if i != n || most.Load() > window+1 {
		t.Errorf("%d values, at most %d on their way", i, most.Load())
	}
}

// TestManyCallsAtOnce: all have their own answers; those over the bounds are
// told so, on either side.
func TestManyCallsAtOnce(t *testing.T) {
	one, two, _ := inMemory(t)
	release := make(chan struct{})
	var running, most atomic.Int64
	two.handle(t, "wait", func(ctx context.Context, q *Request) (any, error) {
		highest(&most, running.Add(1))
		defer running.Add(-1)
		select {
		case <-release:
		case <-ctx.Done():
		}
		return q.Args, nil
	})
	codes := make(chan string, 2*maxPending)
	var all sync.WaitGroup
	for i := range maxRunning {
		all.Go(func() {
			v, err := one.call(t.Context(), "wait", i, nil)
			if err != nil || text(v) != fmt.Sprint(i) {
				codes <- fmt.Sprint(text(v), err)
			}
		})
	}
	eventually(t, "all run", func() bool { return running.Load() == maxRunning })
	if _, err := one.call(t.Context(), "wait", nil, nil); codeOf(err) != CodeBusy {
		t.Errorf("%v, want busy", err)
	}
	close(release)
	all.Wait()
	for range maxRunning { // as many again, each as soon as one is done
		all.Go(func() {
			for range 20 {
				if _, err := one.call(t.Context(), "wait", nil, nil); err != nil {
					codes <- err.Error()
				}
			}
		})
	}
	all.Wait()
	close(codes)
	for code := range codes {
		t.Error(code)
	}
	if most.Load() > maxRunning {
		t.Errorf("%d ran at one time", most.Load())
	}
}

// TestMostPending: a further call fails here and at once.
func TestMostPending(t *testing.T) {
	s := engine(func(context.Context, *protocol.Control) error { return nil })
	defer s.end()
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range maxPending {
		all.Go(func() { s.call(ctx, commandEcho, nil, nil) })
	}
	eventually(t, "all wait", func() bool {
		s.calls.mu.Lock()
		defer s.calls.mu.Unlock()
		return len(s.pending) == maxPending
	})
	if _, err := s.call(ctx, commandEcho, nil, nil); codeOf(err) != "here full" {
		t.Errorf("%v, want full", err)
	}
	cancel()
	all.Wait()
	eventually(t, "nothing is left", s.idle)
}
