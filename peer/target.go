package peer

import (
	"context"
	"iter"
	"maps"
	"slices"
	"sync"
)

// Call runs a command of the other side and waits for what it returns. args
// and path are as in [Handler] and [Room.Handle]; an argument or value has at
// most MaxValue bytes. When ctx ends the other side is told to stop; without a
// deadline that is after 30 s.
//
// The error is a [*RemoteError] when the other side answers with one, ErrGone
// when the connection has ended, ctx's, or a [*protocol.Error] with CodeFull
// while 256 calls to this peer are not over.
func (p *Peer) Call(ctx context.Context, path string, args any, opts ...CallOption) (Value, error) {
	return p.calls.call(ctx, path, args, opts)
}

// Stream runs a command of the other side and gives its values as they come,
// and in the end what the handler returns, unless that is nothing. The call
// begins with the iteration and ends with it, or with ctx, which alone bounds
// its time. When the consumer is slow the handler waits: at most 32 values are
// on their way. An error, as of Call, is the last that is given.
func (p *Peer) Stream(ctx context.Context, path string, args any, opts ...CallOption) iter.Seq2[Value, error] {
	return p.calls.stream(ctx, path, args, opts)
}

// Handle registers a command that the other members may call, until remove is
// called. A path has 1 to 128 of the characters A-Z, a-z, 0-9, "_", "." and
// "-"; one that is taken is a [*protocol.Error] with CodeTaken. Every room has
// __echo__, which answers with its arguments, __list_commands__, which gives the
// paths that there are, and __peers__, which tells whom this member is connected
// to. What is called before it is there fails with "unknown_command"; what is
// registered right after Join is there before anybody can be connected.
func (r *Room) Handle(path string, h Handler) (remove func(), err error) {
	return r.commands.handle(map[string]Handler{path: h})
}

// HandleModule registers several commands, each as name.key, or none.
func (r *Room) HandleModule(name string, handlers map[string]Handler) (remove func(), err error) {
	all := make(map[string]Handler, len(handlers))
	for key, h := range handlers {
		all[name+"."+key] = h
	}
	return r.commands.handle(all)
}

// Target says whom a call of the room goes to. The zero value is nobody.
type Target struct{ of func(*Room) []*Peer }

// All are those with an open connection.
func All() Target { return Target{(*Room).Peers} }

// Named are those of them that call themselves so, which anybody may.
func Named(name string) Target {
	return Target{func(r *Room) (list []*Peer) {
		for _, p := range r.Peers() {
			if p.Name() == name {
				list = append(list, p)
			}
		}
		return list
	}}
}

// Some are these, connected or not.
func Some(peers ...*Peer) Target {
	return Target{func(*Room) []*Peer { return peers }}
}

// Outcome is what one peer answered.
type Outcome struct {
	Value Value
	Err   error // as of Peer.Call
}

// Call calls all of a target at once, as [Peer.Call] does, and returns when the
// last has answered or failed. One that fails, or has gone, does not keep the
// others from answering. OnProgress hears of all of them, one at a time.
func (r *Room) Call(ctx context.Context, to Target, path string, args any, opts ...CallOption) map[*Peer]Outcome {
	outcomes := make(map[*Peer]Outcome)
	if to.of == nil {
		return outcomes
	}
	for _, p := range to.of(r) {
		if p != nil {
			outcomes[p] = Outcome{Err: ErrGone} // until it has answered
		}
	}
	var mu, telling sync.Mutex
	if f := optionsOf(opts).progress; f != nil {
		opts = []CallOption{OnProgress(func(v Value) {
			telling.Lock()
			defer telling.Unlock()
			f(v)
		})}
	}
	var all sync.WaitGroup
	for _, p := range slices.Collect(maps.Keys(outcomes)) {
		all.Go(func() {
			v, err := p.Call(ctx, path, args, opts...)
			mu.Lock()
			defer mu.Unlock()
			outcomes[p] = Outcome{v, err}
		})
	}
	all.Wait()
	return outcomes
}
