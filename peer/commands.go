package peer

import (
	"context"
	"encoding/hex"
	"maps"
	"slices"
	"sync"

	"github.com/peerservers/peerserver/protocol"
)

// maxPath is the length of a command's path.
const maxPath = 128

// The commands of every room.
const (
	commandEcho  = "__echo__"          // what it is given
	commandList  = "__list_commands__" // the paths of all commands, sorted
	commandPeers = "__peers__"         // whom this peer is connected to
)

// Handler runs a command that another peer calls. It runs in a goroutine of its
// own, besides other calls, also of the same command. ctx ends when the caller
// gives up or goes. The end of the connection waits for the handler to return,
// which therefore must not call [Room.Leave].
//
// What it returns is the answer: []byte as bytes, nil as nothing, a [Value] as
// it is, and all else as JSON. A [*RemoteError] tells the caller its code and
// data, a [*protocol.Error] its code; every other error has the code "failed"
// and says at most 1 KiB of its text. A handler that panics has failed, and the
// caller is told no more.
type Handler func(ctx context.Context, q *Request) (any, error)

// Request is a call as its handler sees it.
type Request struct {
	Peer *Peer  // who calls
	Path string // of the command
	Args Value

	ctx context.Context //nolint:containedctx // of the handler that has this, and no longer
	a   *answer
}

// Progress tells the caller how far it is, in at most 32 KiB. A caller that is
// slow is told the newest only. It may be called by several goroutines, until
// the handler returns.
func (q *Request) Progress(v any) error { return q.a.progress(q.ctx, v) }

// Send gives the caller one value of a stream. It waits while too many before it
// were not taken. It fails if the caller used Call, which takes only what the
// handler returns. It may be called by several goroutines, until the handler
// returns.
func (q *Request) Send(v any) error { return q.a.value(q.ctx, v) }

// commands are the handlers of a room.
type commands struct {
	mu  sync.Mutex
	all map[string]*command
}

type command struct{ handler Handler }

func newCommands() *commands {
	c := &commands{}
	c.all = map[string]*command{
		commandEcho:  {func(_ context.Context, q *Request) (any, error) { return q.Args, nil }},
		commandList:  {func(context.Context, *Request) (any, error) { return c.paths(), nil }},
		commandPeers: {func(_ context.Context, q *Request) (any, error) { return whoIsHere(q.Peer.r), nil }},
	}
	return c
}

// handle adds handlers by their paths, all or none.
func (c *commands) handle(handlers map[string]Handler) (remove func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for path, h := range handlers {
		switch {
		case !validPath(path):
			return nil, protocol.Errorf(protocol.CodeMalformed, "peer: a path is 1 to %d of A-Z, a-z, 0-9, \"_\", \".\" and \"-\", not %q", maxPath, path)
		case h == nil:
			return nil, protocol.Errorf(protocol.CodeMalformed, "peer: %s has no handler", path)
		case c.all[path] != nil:
			return nil, protocol.Errorf(protocol.CodeTaken, "peer: %s has a handler; remove that first", path)
		}
	}
	added := make(map[string]*command, len(handlers))
	for path, h := range handlers {
		added[path] = &command{h}
	}
	maps.Copy(c.all, added)
	return func() { c.remove(added) }, nil
}

// remove takes out what is still there.
func (c *commands) remove(added map[string]*command) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for path, one := range added {
		if c.all[path] == one {
			delete(c.all, path)
		}
	}
}

func (c *commands) find(path string) Handler {
	c.mu.Lock()
	defer c.mu.Unlock()
	if one := c.all[path]; one != nil {
		return one.handler
	}
	return nil
}

func (c *commands) paths() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.all))
}

func validPath(path string) bool {
	for _, r := range []byte(path) {
		switch {
		case 'A' <= r && r <= 'Z', 'a' <= r && r <= 'z', '0' <= r && r <= '9', r == '_', r == '.', r == '-':
		default:
			return false
		}
	}
	return 0 < len(path) && len(path) <= maxPath
}

// shownPeer is one of commandPeers.
type shownPeer struct {
	ID      protocol.PeerID `json:"id"`
	Session string          `json:"session"`
	Name    string          `json:"name"`
	Path    string          `json:"path"`
}

func whoIsHere(r *Room) []shownPeer {
	list := []shownPeer{}
	for _, p := range r.Peers() {
		session := p.Session()
		list = append(list, shownPeer{ID: p.ID(), Session: hex.EncodeToString(session[:]), Name: p.Name(), Path: p.Path().String()})
	}
	return list
}
