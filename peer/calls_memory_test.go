package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/peerservers/peerserver/protocol"
)

// side is an end of a connection in memory.
type side struct {
	*calls
	cmds *commands
}

func (s side) handle(t *testing.T, path string, h Handler) {
	t.Helper()
	if _, err := s.cmds.handle(map[string]Handler{path: h}); err != nil {
		t.Fatal(err)
	}
}

// engine is one without a connection.
func engine(send func(context.Context, *protocol.Control) error) side {
	p := &Peer{r: &Room{log: slog.New(slog.DiscardHandler)}}
	cmds := newCommands()
	return side{newCalls(p, cmds, send), cmds}
}

// inMemory are two sides of one connection, which ends with the test or with cut.
func inMemory(t *testing.T) (one, two side, cut func()) {
	done := make(chan struct{})
	var readers sync.WaitGroup
	wire := func() (chan []byte, func(context.Context, *protocol.Control) error) {
		ch := make(chan []byte, 4)
		return ch, func(ctx context.Context, m *protocol.Control) error {
			b, err := proto.Marshal(m)
			if err != nil || len(b) > MaxMessage {
				panic(fmt.Sprint("a message of ", len(b), " bytes: ", err))
			}
			select {
			case ch <- b:
				return nil
			case <-done:
				return ErrGone
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	toTwo, send := wire()
	one = engine(send)
	toOne, send := wire()
	two = engine(send)
	for s, in := range map[side]chan []byte{one: toOne, two: toTwo} {
		readers.Go(func() {
			for {
				select {
				case b := <-in:
					var m protocol.Control
					if err := proto.Unmarshal(b, &m); err != nil {
						panic(err)
					}
					s.take(&m)
				case <-done:
					return
				}
			}
		})
	}
	cut = sync.OnceFunc(func() {
		close(done)
		readers.Wait()
		one.end()
		two.end()
	})
	t.Cleanup(cut)
	return one, two, cut
}

func text(v Value) string { return string(v.JSON) + string(v.Bytes) }

func codeOf(err error) string {
	if e, ok := errors.AsType[*RemoteError](err); ok {
		return e.Code
	}
	if e, ok := errors.AsType[*protocol.Error](err); ok {
		return "here " + e.Code.String()
	}
	return fmt.Sprint(err)
}

func (s side) idle() bool {
	s.calls.mu.Lock()
	defer s.calls.mu.Unlock()
	return len(s.pending) == 0 && len(s.answers) == 0 && s.answering == 0 && s.argBytes == 0 && s.refusing == 0 && len(s.outbox) == 0
}

func highest(most *atomic.Int64, n int64) {
	for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
	}
}
