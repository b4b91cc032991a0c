// Package matchbox is the door for Matchbox, WebRTC for games in Rust: what
// matchbox_socket expects of matchbox_server.
//
// A client is in one room, which its URL names. The server says who it is, then
// tells those who were there before of it, and each of them sends it an offer. A
// room is an app of the relay, a client a member of it; with ?next=N it is a
// group of this node alone. session.go is one socket, place.go its place in a
// room, group.go its place in a group, message.go what is on the wire.
package matchbox

import (
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/relay"
)

// Name is the door's namespace in protocol.App.
const Name = "matchbox"

// Path is what the room's name comes after: ws://node/matchbox/room.
const Path = "/matchbox"

// MaxRoom is how many members a room has, on all nodes. A newcomer is sent an
// offer and candidates by all of them at once, some 4 KB each, and what waits for
// a client is at most 512 KiB.
const MaxRoom = 100

// Config is what a Door is made from.
type Config struct {
	Host    *door.Host
	Relay   *relay.Relay
	Clients int // at most so many at a time; 0 is no bound
}

// Door is the door. Use New.
type Door struct {
	cfg    Config
	places door.Places
	groups groups

	messages, signals, dropped, bad, refused atomic.Uint64
}

// New makes the door.
func New(cfg Config) *Door {
	return &Door{cfg: cfg, places: door.Places{Max: cfg.Clients}, groups: groups{forming: make(map[groupName]*group)}}
}

// Stats are the door's totals.
type Stats struct {
	Clients  int    `json:"clients"`
	Full     uint64 `json:"full"`    // clients for whom there was no place
	Forming  int    `json:"forming"` // groups of ?next=N that wait for more
	Messages uint64 `json:"messages"`
	Signals  uint64 `json:"signals"` // taken from clients
	Dropped  uint64 `json:"dropped"` // of these, and of other nodes'
	Bad      uint64 `json:"bad"`     // messages that are not of the protocol
	Refused  uint64 `json:"refused"` // clients that were disconnected
}

// Name implements door.Door.
func (d *Door) Name() string { return Name }

// Stats implements door.Door.
func (d *Door) Stats() any {
	clients, full := d.places.Count()
	return Stats{
		Clients: clients, Full: full, Forming: d.groups.count(), Messages: d.messages.Load(),
		Signals: d.signals.Load(), Dropped: d.dropped.Load(), Bad: d.bad.Load(), Refused: d.refused.Load(),
	}
}

// Register implements door.Door. Without a name behind the path the room's name
// is empty, as at the reference server's root.
func (d *Door) Register(sockets, plain *http.ServeMux) {
	for _, path := range []string{Path, Path + "/{$}", Path + "/{room}"} {
		sockets.HandleFunc(path, d.serve)
		plain.HandleFunc("GET "+path, noUpgrade)
	}
}

// noUpgrade is what the reference server says to a browser that is pointed at it.
func noUpgrade(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(http.StatusBadRequest)
	_, _ = w.Write([]byte("Connection header did not include 'upgrade'"))
}

func (d *Door) serve(w http.ResponseWriter, q *http.Request) {
	name, next, grouped := q.PathValue("room"), 0, false
	if list := q.URL.Query()["next"]; len(list) > 0 {
		next, grouped = parseNext(list[len(list)-1])
	}
	d.cfg.Host.Upgrade(w, q, door.Socket{}, func(c *door.Conn) door.Session {
		if !d.places.Take() {
			c.CloseLater(protocol.CloseTryAgainLater, "this node has all the Matchbox clients that it takes; use another node")
			return door.Deaf{}
		}
		s := &session{d: d, c: c, id: newUUID()}
		if grouped {
			s.enterGroup(groupName{name, next})
		} else {
			s.enterRoom(name)
		}
		return s
	})
}

// parseNext reads N of ?next=N as Rust reads a usize; what is none makes no
// group.
func parseNext(text string) (next int, ok bool) {
	n, err := strconv.ParseUint(strings.TrimPrefix(text, "+"), 10, 64)
	return int(min(n, MaxRoom+1)), err == nil
}
