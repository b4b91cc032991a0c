package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"google.golang.org/protobuf/proto"

	"github.com/peerservers/peerserver/protocol"
)

// hostile is the other side of an engine: it says what it likes and sees what
// comes.
type hostile struct {
	side
	t   *testing.T
	got chan *protocol.Control
}

func against(t *testing.T) *hostile {
	h := &hostile{t: t, got: make(chan *protocol.Control, 10_000)}
	h.side = engine(func(ctx context.Context, m *protocol.Control) error {
		select {
		case h.got <- m:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	t.Cleanup(h.end)
	return h
}

// says hands messages over as they come from a connection.
func (h *hostile) says(ms ...any) {
	h.t.Helper()
	for _, m := range ms {
		c := &protocol.Control{}
		switch m := m.(type) {
		case *protocol.Call:
			c.Body = &protocol.Control_Call{Call: m}
		case *protocol.CallValue:
			c.Body = &protocol.Control_CallValue{CallValue: m}
		case *protocol.CallProgress:
			c.Body = &protocol.Control_CallProgress{CallProgress: m}
		case *protocol.CallError:
			c.Body = &protocol.Control_CallError{CallError: m}
		case *protocol.CallCredit:
			c.Body = &protocol.Control_CallCredit{CallCredit: m}
		case *protocol.CallCancel:
			c.Body = &protocol.Control_CallCancel{CallCancel: m}
		}
		b, err := proto.Marshal(c)
		if err != nil {
			h.t.Fatal(err)
		}
		var read protocol.Control
		if err := proto.Unmarshal(b, &read); err != nil {
			h.t.Fatal(err)
		}
		h.take(&read)
	}
}

// sees is what has come so far, in short.
func (h *hostile) sees() string {
	synctest.Wait()
	var all []string
	for len(h.got) > 0 {
		switch b := (<-h.got).GetBody().(type) {
		case *protocol.Control_Call:
			all = append(all, fmt.Sprintf("call %d", b.Call.Id))
		case *protocol.Control_CallValue:
			all = append(all, fmt.Sprintf("value %d %s", b.CallValue.Id, b.CallValue.Value.GetJson()))
		case *protocol.Control_CallError:
			all = append(all, fmt.Sprintf("error %d %s", b.CallError.Id, b.CallError.Code))
		case *protocol.Control_CallCredit:
			all = append(all, fmt.Sprintf("credit %d %d", b.CallCredit.Id, b.CallCredit.Values))
		case *protocol.Control_CallCancel:
			all = append(all, fmt.Sprintf("cancel %d", b.CallCancel.Id))
		}
	}
	return strings.Join(all, ", ")
}

// wants checks what came since it was called last, and that nothing is left.
func (h *hostile) wants(what string) {
	h.t.Helper()
	if got := h.sees(); got != what {
		h.t.Errorf("came %q, want %q", got, what)
	}
}

func inJSON(s string) *protocol.Value { return Value{JSON: []byte(s)}.wire() }

func inBytes(n int) *protocol.Value { return Value{Bytes: make([]byte, n)}.wire() }

// echo is a call of an id and what is special about it.
func echo(id uint32, args *protocol.Value, more bool) *protocol.Call {
	return &protocol.Call{Id: id, Path: commandEcho, Args: args, More: more}
}

// TestHostileCaller: what it may not do does nothing, or is refused.
func TestHostileCaller(t *testing.T) {
	for name, c := range map[string]struct {
		says []any
		sees string
	}{
		"as it should be":           {[]any{echo(1, inJSON("1"), false), echo(7, inJSON("2"), false)}, "value 1 1, value 7 2"},
		"id 0":                      {[]any{echo(0, inJSON("1"), false)}, ""},
		"an id again":               {[]any{echo(2, inJSON("1"), false), echo(2, inJSON("2"), false), echo(1, inJSON("3"), false)}, "value 2 1"},
		"no path":                   {[]any{&protocol.Call{Id: 1}}, "error 1 malformed"},
		"a path that is too long":   {[]any{&protocol.Call{Id: 1, Path: strings.Repeat("a", maxPath+1)}}, "error 1 malformed"},
		"a path of a file":          {[]any{&protocol.Call{Id: 1, Path: "../etc/passwd"}}, "error 1 malformed"},
		"an unknown command":        {[]any{&protocol.Call{Id: 1, Path: "constructor", More: true}, echo(1, inJSON("1"), false)}, "error 1 unknown_command"},
		"no JSON":                   {[]any{echo(1, inJSON("{"), false)}, "error 1 malformed"},
		"half a character":          {[]any{echo(1, inJSON(`"`+"\xc3"), true), echo(1, inJSON("\xa9"+`"`), false)}, `value 1 "é"`},
		"parts of two kinds":        {[]any{echo(1, inJSON("1"), true), echo(1, inBytes(1), false), echo(1, inBytes(1), false)}, "error 1 malformed"},
		"a part of nothing":         {[]any{echo(1, nil, true), echo(1, nil, false)}, "error 1 malformed"},
		"nothing after a part":      {[]any{echo(1, inJSON("1"), true), echo(1, nil, false)}, "error 1 malformed"},
		"cancelled between parts":   {[]any{echo(1, inJSON("1"), true), &protocol.CallCancel{Id: 1}, echo(1, inJSON("1"), false)}, ""},
		"answers to nothing":        {[]any{&protocol.CallValue{Id: 1, Last: true}, &protocol.CallError{Id: 2}, &protocol.CallProgress{Id: 3}}, ""},
		"credit for nothing":        {[]any{&protocol.CallCredit{Id: 1, Values: 1 << 31}, &protocol.CallCancel{Id: 1}}, ""},
		"something of later, twice": {[]any{nil, &protocol.Call{}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := against(t)
				for _, m := range c.says {
					h.says(m)
					synctest.Wait() // answers to one come before those to the next
				}
				h.wants(c.sees)
				if !h.idle() {
					t.Error("something is left")
				}
				h.end()
			})
		})
	}
}

// TestArgumentsOverTheLimit: of one call, and of all together.
func TestArgumentsOverTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := against(t)
		for range MaxValue / maxPart {
			h.says(echo(1, inBytes(maxPart), true))
		}
		h.wants("")
		h.says(echo(1, inBytes(1), true), echo(1, inBytes(1), false))
		h.wants("error 1 too_large")
		id := uint32(1)
		for range maxArgs/MaxValue + 1 {
			id++
			for range MaxValue / maxPart {
				h.says(echo(id, inBytes(maxPart), true))
			}
		}
		h.wants(fmt.Sprintf("error %d busy", id))
		if h.argBytes != maxArgs {
			t.Errorf("%d bytes are kept", h.argBytes)
		}
		h.end()
	})
}

// TestCallsOverTheLimit: those that begin and never go on fill what one peer may
// have and no more; and what it is told waits only so long.
func TestCallsOverTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := against(t)
		stuck := make(chan struct{})
		h.calls.send = func(ctx context.Context, m *protocol.Control) error {
			select {
			case <-stuck:
			case <-ctx.Done():
			}
			h.got <- m
			return nil
		}
		for id := range uint32(100_000) {
			h.says(echo(id+1, inBytes(1), true))
		}
		if len(h.answers) != maxRunning || h.refusing != maxPending || len(h.outbox) > maxPending {
			t.Errorf("%d answers and %d refusals", len(h.answers), h.refusing)
		}
		close(stuck)
		if n := strings.Count(h.sees(), "busy"); n != maxPending {
			t.Errorf("%d were told that it is busy", n)
		}
		h.end()
	})
}

// TestNobodyReadsAnswers: calls that are done, but whose answers do not go out,
// are bounded too.
func TestNobodyReadsAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := against(t)
		h.calls.send = func(ctx context.Context, _ *protocol.Control) error { <-ctx.Done(); return ErrGone }
		for id := range uint32(10_000) {
			h.says(echo(id+1, nil, false))
			synctest.Wait()
		}
		if h.answering != maxPending || h.refusing != maxPending {
			t.Errorf("%d answers and %d refusals", h.answering, h.refusing)
		}
		h.end()
	})
}

// TestCreditNeverGiven: the handler waits for it, until it is cancelled.
func TestCreditNeverGiven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := against(t)
		var sent atomic.Int32
		h.handle(t, "count", func(_ context.Context, q *Request) (any, error) {
			for {
				if err := q.Send(sent.Add(1)); err != nil {
					return nil, err
				}
			}
		})
		h.says(&protocol.Call{Id: 1, Path: "count", Credit: 2})
		h.wants("value 1 1, value 1 2")
		h.says(&protocol.CallCredit{Id: 1, Values: 1}, &protocol.CallCredit{Id: 2, Values: 9})
		h.wants("value 1 3")
		for range 10 {
			h.says(&protocol.CallCredit{Id: 1, Values: 0})
		}
		h.wants("")
		h.says(&protocol.CallCancel{Id: 1}, &protocol.CallCancel{Id: 1})
		h.wants("error 1 cancelled")
		if !h.idle() || sent.Load() != 4 {
			t.Errorf("%d were made, or something is left", sent.Load())
		}
		h.end()
	})
}

// TestHostileAnswers: a call fails, and the other side is told to stop, once.
func TestHostileAnswers(t *testing.T) {
	value := func(v *protocol.Value, more, last bool) *protocol.CallValue {
		return &protocol.CallValue{Id: 1, Value: v, More: more, Last: last}
	}
	tooMany := make([]any, window+1)
	for i := range tooMany {
		tooMany[i] = value(inJSON("1"), false, false)
	}
	tooLarge := make([]any, MaxValue/maxPart+1)
	for i := range tooLarge {
		tooLarge[i] = value(inBytes(maxPart), true, false)
	}
	for name, c := range map[string]struct {
		stream bool
		says   []any
		err    string
		sees   string
	}{
		"as it should be":               {false, []any{value(inJSON("1"), false, true)}, "<nil>", ""},
		"in parts":                      {false, []any{value(inJSON("1"), true, false), value(inJSON("2"), false, true)}, "<nil>", ""},
		"twice":                         {false, []any{value(nil, false, true), value(nil, false, true), &protocol.CallError{Id: 1}}, "<nil>", ""},
		"a stream for a call":           {false, []any{value(inJSON("1"), false, false)}, "here malformed", "cancel 1"},
		"more values than it may":       {true, append(tooMany, tooMany...), "here malformed", "cancel 1"},
		"a value that is too large":     {true, append(tooLarge, tooLarge...), "here too_large", "cancel 1"},
		"no JSON":                       {false, []any{value(inJSON("{"), false, true)}, "here malformed", "cancel 1"},
		"parts of two kinds":            {false, []any{value(inJSON("1"), true, false), value(inBytes(1), false, true)}, "here malformed", "cancel 1"},
		"progress that is too large":    {false, []any{&protocol.CallProgress{Id: 1, Value: inBytes(maxPart + 1)}}, "here too_large", "cancel 1"},
		"progress that is no JSON":      {true, []any{&protocol.CallProgress{Id: 1, Value: inJSON("}")}}, "here malformed", "cancel 1"},
		"an error without a code":       {true, []any{&protocol.CallError{Id: 1, Data: inJSON("{")}}, "failed", ""},
		"an error with a code too long": {false, []any{&protocol.CallError{Id: 1, Code: strings.Repeat("x", 2*maxCode)}}, strings.Repeat("x", maxCode), ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := against(t)
				result, said := make(chan error, 1), make(chan struct{})
				go func() { result <- ask(t.Context(), h, c.stream, said) }()
				if got := h.sees(); got != "call 1" {
					t.Fatal(got)
				}
				h.says(c.says...)
				close(said)
				if err := <-result; codeOf(err) != c.err {
					t.Errorf("%v, want %s", err, c.err)
				}
				h.wants(c.sees)
				if !h.idle() {
					t.Error("something is left")
				}
				h.end()
			})
		})
	}
}

// ask takes no second value of a stream before all is said.
func ask(ctx context.Context, h *hostile, stream bool, said <-chan struct{}) error {
	if !stream {
		_, err := h.call(ctx, "x", nil, nil)
		return err
	}
	for _, err := range h.stream(ctx, "x", nil, nil) {
		if err != nil {
			return err
		}
		<-said
	}
	return nil
}

// TestSlowConsumers: what waits for them is bounded, however much comes.
func TestSlowConsumers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := against(t)
		next, stop := iter.Pull2(h.stream(t.Context(), "x", nil, []CallOption{OnProgress(func(Value) {})}))
		first := make(chan struct{})
		go func() { next(); close(first) }()
		h.wants("call 1")
		h.says(&protocol.CallValue{Id: 1, Value: inJSON("1")})
		<-first
		for range 1000 {
			h.says(&protocol.CallProgress{Id: 1, Value: inJSON("1")})
		}
		q := h.pending[1]
		if len(q.progress) != maxProgress {
			t.Errorf("%d of progress wait", len(q.progress))
		}
		for range window - 1 {
			h.says(&protocol.CallValue{Id: 1, Value: inJSON("1")})
		}
		for range window/2 - 1 {
			next()
		}
		h.wants(fmt.Sprintf("credit 1 %d", window/2))
		stop()
		h.wants("cancel 1")
		h.end()
	})
}

// FuzzCalls: no order of messages breaks an engine, and what it keeps is bounded.
func FuzzCalls(f *testing.F) {
	f.Add([]byte("\x00\x01\x02\x03\x04\x05"))
	f.Fuzz(func(t *testing.T, script []byte) {
		s := engine(func(ctx context.Context, _ *protocol.Control) error { return ctx.Err() })
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				for _, err := range s.stream(ctx, "x", nil, nil) {
					if err != nil && errors.Is(err, io.EOF) {
						t.Error(err)
					}
				}
			})
		}
		for i, b := range script {
			id, flag := uint32(b>>4), i%3 == 0
			var v *protocol.Value
			if i%5 > 0 {
				v = []*protocol.Value{inJSON("1"), inJSON("{"), inBytes(i % 300)}[i%3]
			}
			switch b & 7 {
			case 0:
				s.take(&protocol.Control{Body: &protocol.Control_Call{Call: echo(id, v, flag)}})
			case 1:
				s.take(&protocol.Control{Body: &protocol.Control_CallValue{CallValue: &protocol.CallValue{Id: id, Value: v, More: flag, Last: b&8 > 0}}})
			case 2:
				s.take(&protocol.Control{Body: &protocol.Control_CallProgress{CallProgress: &protocol.CallProgress{Id: id, Value: v}}})
			case 3:
				s.take(&protocol.Control{Body: &protocol.Control_CallError{CallError: &protocol.CallError{Id: id, Data: v}}})
			case 4:
				s.take(&protocol.Control{Body: &protocol.Control_CallCredit{CallCredit: &protocol.CallCredit{Id: id, Values: uint32(b) << 24}}})
			case 5:
				s.take(&protocol.Control{Body: &protocol.Control_CallCancel{CallCancel: &protocol.CallCancel{Id: id}}})
			default:
				s.take(&protocol.Control{})
			}
		}
		cancel()
		all.Wait()
		s.end()
		if s.argBytes != 0 && len(s.answers) > 0 || s.answering != 0 {
			t.Errorf("%d bytes and %d answers are left", s.argBytes, s.answering)
		}
	})
}
