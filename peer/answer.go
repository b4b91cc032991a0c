package peer

import (
	"context"
	"runtime/debug"
	"sync"

	"github.com/peerservers/peerserver/protocol"
)

// answer is a call of the other side.
type answer struct {
	// Static.
	c       *calls
	id      uint32
	path    string
	handler Handler
	streams bool          // the caller takes values besides the last
	wake    chan struct{} // there is credit

	// Guarded by calls.mu.
	args   pieces
	size   int                // of them
	cancel context.CancelFunc // nil while arguments are to come
	credit uint64

	sending sync.Mutex // a value in parts is not mixed with another
	torn    bool       // one was not sent to its end
}

// called takes a part of a call. c.mu is held.
func (c *calls) called(m *protocol.Call) {
	a := c.answers[m.GetId()]
	if a == nil {
		a = c.admit(m)
	}
	if a == nil || a.cancel != nil { // an id that was used already
		return
	}
	n := len(m.GetArgs().GetJson()) + len(m.GetArgs().GetBytes())
	a.size, c.argBytes = a.size+n, c.argBytes+n
	args, done, err := a.args.add(m.GetArgs(), m.GetMore())
	switch {
	case err != nil:
		c.release(a)
		c.refuse(a.id, failureOf(err))
	case c.argBytes > maxArgs:
		c.release(a)
		c.refuse(a.id, busy())
	case done:
		ctx, cancel := context.WithCancel(c.ctx)
		a.cancel = cancel
		c.answering++
		c.work.Go(func() { a.run(ctx, args) })
	}
}

// admit begins an answer, or refuses to: then it is nil.
func (c *calls) admit(m *protocol.Call) *answer {
	if m.GetId() <= c.newest {
		return nil
	}
	c.newest = m.GetId()
	path := m.GetPath()
	if !validPath(path) {
		c.refuse(c.newest, &RemoteError{Code: CodeMalformed, Text: "this is no path of a command"})
		return nil
	}
	h := c.cmds.find(path)
	switch {
	case h == nil:
		c.refuse(c.newest, &RemoteError{Code: CodeUnknownCommand, Text: "there is no command " + path + "; " + commandList + " tells which there are"})
		return nil
	case len(c.answers) >= maxRunning || c.answering >= maxPending:
		c.refuse(c.newest, busy())
		return nil
	}
	a := &answer{
		c: c, id: c.newest, path: path, handler: h,
		streams: m.GetCredit() > 0, credit: uint64(m.GetCredit()), wake: make(chan struct{}, 1),
	}
	c.answers[a.id] = a
	return a
}

func busy() *RemoteError {
	return &RemoteError{Code: CodeBusy, Text: "too many calls of yours are running here; again when one is done"}
}

// refuse answers a call that does not run. A peer for whom as many as it may
// have pending wait already does not keep to that, and is told nothing.
func (c *calls) refuse(id uint32, e *RemoteError) {
	if c.refusing < maxPending {
		c.refusing++
		c.post(e.wire(id), func() { c.refusing-- })
	}
}

func (c *calls) release(a *answer) {
	if c.answers[a.id] == a {
		delete(c.answers, a.id)
	}
	c.argBytes -= a.size
	a.size, a.args = 0, pieces{}
}

func (c *calls) credited(m *protocol.CallCredit) {
	if a := c.answers[m.GetId()]; a != nil {
		a.credit = min(a.credit+uint64(m.GetValues()), 1<<32)
		select {
		case a.wake <- struct{}{}:
		default:
		}
	}
}

func (c *calls) cancelled(id uint32) {
	a := c.answers[id]
	switch {
	case a == nil:
	case a.cancel == nil:
		c.release(a)
	default:
		a.cancel()
	}
}

// run has the handler answer. Also when it panics, or ends its goroutine, the
// caller is told.
func (a *answer) run(ctx context.Context, args Value) {
	v, err := Value{}, error(&RemoteError{Code: CodeFailed, Text: "internal"})
	defer func() {
		if recover() != nil {
			a.c.p.r.log.Error("a handler has panicked", "path", a.path, "stack", string(debug.Stack()))
		}
		a.done(v, err)
	}()
	got, failed := a.handler(ctx, &Request{Peer: a.c.p, Path: a.path, Args: args, ctx: ctx, a: a})
	if failed == nil {
		v, failed = valueOf(got, MaxValue)
	}
	err = failed
}

// done tells the caller how it went. Another call may run in its place before
// that has gone out: the caller may make one as soon as it knows.
func (a *answer) done(v Value, err error) {
	c := a.c
	a.cancel()
	c.mu.Lock()
	c.release(a)
	c.mu.Unlock()
	a.sending.Lock()
	defer a.sending.Unlock()
	if err == nil && a.torn {
		err = &RemoteError{Code: CodeFailed, Text: "a value was cut off"}
	}
	if err != nil {
		_ = c.send(c.ctx, failureOf(err).wire(a.id))
	} else {
		_ = a.send(c.ctx, v, true)
	}
	c.mu.Lock()
	c.answering--
	c.mu.Unlock()
}

func (a *answer) progress(ctx context.Context, from any) error {
	v, err := valueOf(from, maxPart)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return err
	}
	m := &protocol.CallProgress{Id: a.id, Value: v.wire()}
	return a.c.send(ctx, &protocol.Control{Body: &protocol.Control_CallProgress{CallProgress: m}})
}

func (a *answer) value(ctx context.Context, from any) error {
	v, err := valueOf(from, MaxValue)
	if err != nil {
		return err
	}
	if !a.streams {
		return protocol.Errorf(protocol.CodeMalformed, "%s answers with a stream, and was called for one value", a.path)
	}
	a.sending.Lock()
	defer a.sending.Unlock()
	if err := a.spend(ctx); err != nil {
		return err
	}
	return a.send(ctx, v, false)
}

// spend waits until the caller takes another value.
func (a *answer) spend(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		a.c.mu.Lock()
		ok := a.credit > 0
		if ok {
			a.credit--
		}
		a.c.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-a.wake:
		case <-ctx.Done():
		}
	}
}

// send sends a value in its parts. a.sending is held.
func (a *answer) send(ctx context.Context, v Value, last bool) error {
	parts := v.parts()
	for i, part := range parts {
		more := i < len(parts)-1
		m := &protocol.CallValue{Id: a.id, Value: part, More: more, Last: last && !more}
		if err := a.c.send(ctx, &protocol.Control{Body: &protocol.Control_CallValue{CallValue: m}}); err != nil {
			a.torn = true
			return err
		}
	}
	return nil
}
