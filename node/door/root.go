package door

import (
	"net/http"
	"sync"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// Rooted is a Door whose clients speak first, so that they may be pointed at
// "/" as well: their first message says which door they mean.
type Rooted interface {
	Door
	// Recognise says whether the first message of a client is of this door's
	// protocol. It looks at the form alone: a message of the door that is wrong
	// in itself is the door's to refuse.
	Recognise(first []byte) bool
	// Open makes the session of a client that was recognised.
	Open(c *Conn) Session
}

// Root serves WebSockets at "/": each client is given to the first of the doors
// that recognises it, or to the last one, which is to answer whatever comes.
// Without doors all clients are told that this is not for them.
func (h *Host) Root(doors []Rooted) http.HandlerFunc {
	var s Socket
	open := func(c *Conn) Session { return &undecided{c, doors} }
	if len(doors) == 0 {
		open = func(c *Conn) Session {
			c.CloseLater(protocol.CloseDenied, "no door of this node is at /; use the path of the one that is meant")
			return Deaf{}
		}
	} else if d, ok := doors[len(doors)-1].(Denier); ok {
		s.Deny = d.Deny
	}
	return func(w http.ResponseWriter, q *http.Request) { h.Upgrade(w, q, s, open) }
}

// undecided is the session of a client that has said nothing yet.
type undecided struct {
	c     *Conn
	doors []Rooted
}

// Message implements Session.
func (u *undecided) Message(b []byte) {
	for _, d := range u.doors[:len(u.doors)-1] {
		if d.Recognise(b) {
			u.become(d).Message(b)
			return
		}
	}
	u.become(u.doors[len(u.doors)-1]).Message(b)
}

// Refuse implements Session.
func (u *undecided) Refuse(code protocol.Code) { u.become(u.doors[len(u.doors)-1]).Refuse(code) }

// Sweep implements Session.
func (u *undecided) Sweep(time.Time) {}

// Closed implements Session.
func (u *undecided) Closed() {}

// become gives the client to a door, for good.
func (u *undecided) become(d Rooted) Session {
	s := d.Open(u.c)
	u.c.mu.Lock()
	u.c.sess = s
	u.c.mu.Unlock()
	return s
}

// Places counts the clients of one door, so that one door's crowd does not fill
// the node. The zero value has room for any number.
type Places struct {
	Max int // 0: no bound

	mu    sync.Mutex
	taken int
	full  uint64
}

// Take takes a place, and reports false when there is none.
func (p *Places) Take() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.Max > 0 && p.taken >= p.Max {
		p.full++
		return false
	}
	p.taken++
	return true
}

// Free gives back a place.
func (p *Places) Free() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken--
}

// Count says how many places are taken, and how often there was none.
func (p *Places) Count() (taken int, full uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.taken, p.full
}
