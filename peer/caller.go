package peer

import (
	"context"
	"fmt"
	"iter"
	"math"

	"github.com/peerservers/peerserver/protocol"
)

// CallOption changes a call.
type CallOption func(*callOptions)

type callOptions struct{ progress func(Value) }

// OnProgress is told how far the other side is, by the goroutine that called,
// and one at a time. While f runs the newest 16 wait; older ones are dropped.
func OnProgress(f func(Value)) CallOption {
	return func(o *callOptions) { o.progress = f }
}

func optionsOf(opts []CallOption) (o callOptions) {
	for _, set := range opts {
		set(&o)
	}
	return o
}

// pending is a call of this side.
type pending struct {
	// Static.
	id   uint32
	wake chan struct{} // there is something new

	// Guarded by calls.mu.
	parts    pieces
	credit   int     // values that the other side may send besides the last
	values   []Value // not yet taken
	taken    int     // for which no new credit was given
	progress []Value
	over     bool
	err      error // why, nil: it has answered
	given    bool  // up: a cancel is on its way, and no answer counts
}

func (q *pending) news() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (c *calls) call(ctx context.Context, path string, args any, opts []CallOption) (Value, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, callWithin)
		defer cancel()
	}
	q, err := c.begin(ctx, path, args, 0)
	if err != nil {
		return Value{}, inCall(path, err)
	}
	defer c.giveUp(q)
	v, _, err := c.next(ctx, q, optionsOf(opts).progress)
	if err != nil {
		return Value{}, inCall(path, err)
	}
	return v, nil
}

func (c *calls) stream(ctx context.Context, path string, args any, opts []CallOption) iter.Seq2[Value, error] {
	return func(yield func(Value, error) bool) {
		q, err := c.begin(ctx, path, args, window)
		if err != nil {
			yield(Value{}, inCall(path, err))
			return
		}
		defer c.giveUp(q)
		for {
			v, ok, err := c.next(ctx, q, optionsOf(opts).progress)
			switch {
			case err != nil:
				yield(Value{}, inCall(path, err))
				return
			case !ok || !yield(v, nil):
				return
			}
		}
	}
}

func inCall(path string, err error) error {
	return fmt.Errorf("peer: call %.*s: %w", maxPath, path, err)
}

// begin sends a call with all its arguments.
func (c *calls) begin(ctx context.Context, path string, args any, credit int) (*pending, error) {
	if !validPath(path) {
		return nil, protocol.Errorf(protocol.CodeMalformed, "this is no path of a command")
	}
	v, err := valueOf(args, MaxValue)
	if err != nil {
		return nil, err
	}
	parts := v.parts()
	q, err := c.open(ctx, &protocol.Call{Path: path, Args: parts[0], More: len(parts) > 1, Credit: uint32(credit)})
	for i := 1; i < len(parts) && err == nil && !c.isOver(q); i++ {
		m := &protocol.Call{Id: q.id, Args: parts[i], More: i < len(parts)-1}
		err = c.send(ctx, &protocol.Control{Body: &protocol.Control_Call{Call: m}})
	}
	if err != nil && q != nil {
		c.giveUp(q)
	}
	return q, err
}

// open sends the first message of a call, and gives it its id: the other side
// takes only those that are higher than all before. If the message could not be
// sent there are a pending call and an error.
func (c *calls) open(ctx context.Context, m *protocol.Call) (*pending, error) {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-c.ctx.Done():
		return nil, ErrGone
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	q, err := c.expect(int(m.Credit))
	if err != nil {
		return nil, err
	}
	m.Id = q.id
	return q, c.send(ctx, &protocol.Control{Body: &protocol.Control_Call{Call: m}})
}

func (c *calls) expect(credit int) (*pending, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.ended:
		return nil, ErrGone
	case len(c.pending) >= maxPending || c.lastID == math.MaxUint32:
		return nil, protocol.Errorf(protocol.CodeFull, "%d calls to this peer wait for their answers; wait for one", len(c.pending))
	}
	c.lastID++
	q := &pending{id: c.lastID, wake: make(chan struct{}, 1), credit: credit}
	c.pending[q.id] = q
	return q, nil
}

func (c *calls) isOver(q *pending) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return q.over
}

// next waits for the next value. Without an error, ok is false when there are
// no more.
func (c *calls) next(ctx context.Context, q *pending, progress func(Value)) (v Value, ok bool, err error) {
	for {
		if err := ctx.Err(); err != nil {
			return Value{}, false, err
		}
		c.mu.Lock()
		told, over := q.progress, q.over
		q.progress, err = nil, q.err
		grant := 0
		if ok = len(q.values) > 0; ok {
			v, q.values[0] = q.values[0], Value{}
			q.values = q.values[1:]
			grant = q.grant()
		}
		c.mu.Unlock()
		if progress != nil {
			for _, one := range told {
				progress(one)
			}
		}
		switch {
		case ok:
			if grant > 0 {
				m := &protocol.CallCredit{Id: q.id, Values: uint32(grant)}
				_ = c.send(ctx, &protocol.Control{Body: &protocol.Control_CallCredit{CallCredit: m}}) // the next value says why it failed
			}
			return v, true, nil
		case over:
			return Value{}, false, err
		}
		select {
		case <-q.wake:
		case <-ctx.Done():
		}
	}
}

// grant counts a value that was taken; it says how many more the other side may
// be given, when that is worth a message.
func (q *pending) grant() int {
	if q.taken++; q.over || q.taken < window/2 {
		return 0
	}
	n := q.taken
	q.taken, q.credit = 0, q.credit+n
	return n
}

// giveUp ends a call that is not over: the other side is told to stop. It counts
// as pending until that has gone out.
func (c *calls) giveUp(q *pending) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !q.over {
		c.reject(q, context.Canceled)
	}
}

// reject ends a call although the other side has not. c.mu is held.
func (c *calls) reject(q *pending, err error) {
	q.over, q.given, q.err, q.parts = true, true, err, pieces{}
	q.news()
	c.post(&protocol.Control{Body: &protocol.Control_CallCancel{CallCancel: &protocol.CallCancel{Id: q.id}}}, func() { delete(c.pending, q.id) })
}

// finish ends a call that the other side has ended. c.mu is held.
func (c *calls) finish(q *pending, err error) {
	delete(c.pending, q.id)
	if !q.over {
		q.over, q.err = true, err
		q.news()
	}
}

// valued takes a part of a value. c.mu is held, as in what follows.
func (c *calls) valued(m *protocol.CallValue) {
	q := c.pending[m.GetId()]
	if q == nil || q.given {
		return
	}
	v, done, err := q.parts.add(m.GetValue(), m.GetMore())
	last := done && m.GetLast()
	if done && !last && q.credit == 0 {
		err = protocol.Errorf(protocol.CodeMalformed, "the other side sends more values than it may")
	}
	switch {
	case err != nil:
		c.reject(q, err)
	case last:
		if !v.IsNone() {
			q.values = append(q.values, v)
		}
		c.finish(q, nil)
	case done:
		q.credit--
		q.values = append(q.values, v)
		q.news()
	}
}

func (c *calls) progressed(m *protocol.CallProgress) {
	q := c.pending[m.GetId()]
	if q == nil || q.given {
		return
	}
	var whole pieces
	v, _, err := whole.add(m.GetValue(), false)
	if err == nil && v.size() > maxPart {
		err = protocol.Errorf(protocol.CodeTooLarge, "progress of %d bytes is over %d", v.size(), maxPart)
	}
	if err != nil {
		c.reject(q, err)
		return
	}
	if q.progress = append(q.progress, v); len(q.progress) > maxProgress {
		q.progress = q.progress[1:]
	}
	q.news()
}

func (c *calls) failed(m *protocol.CallError) {
	if q := c.pending[m.GetId()]; q != nil {
		c.finish(q, remoteError(m))
	}
}
