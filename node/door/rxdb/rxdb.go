// Package rxdb is the door for RxDB's WebRTC replication: the handler that
// getConnectionHandlerSimplePeer makes, with this node as its signalingServerUrl.
//
// The server speaks first and says who the client is. A client joins rooms, is
// shown all who are in them, and of two the one with the lesser id sends the
// offer. A room is an app of the relay, a client's place in it a member; a
// signal passes through as the JSON that it came as. session.go is one socket,
// room.go one place in a room, message.go what is on the wire.
package rxdb

import (
	"net/http"
	"sync/atomic"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/relay"
)

// Name is the door's namespace in protocol.App.
const Name = "rxdb"

// Path is where clients connect, with or without a slash behind it.
const Path = "/rxdb"

// MaxRoom is how many members a room has, on all nodes. Each of them connects
// to each other one, so a browser is at its end long before; and as each join
// shows all to all, what a client may have to take at once when many come
// together grows as its square: with two nodes of so many each it is 450 KB,
// and what waits for a client is at most 512.
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

	members                             atomic.Int64
	messages, signals, dropped, refused atomic.Uint64
}

// New makes the door.
func New(cfg Config) *Door { return &Door{cfg: cfg, places: door.Places{Max: cfg.Clients}} }

// Stats are the door's totals.
type Stats struct {
	Clients  int    `json:"clients"`
	Full     uint64 `json:"full"`    // clients for whom there was no place
	Members  int    `json:"members"` // places of clients in rooms
	Messages uint64 `json:"messages"`
	Signals  uint64 `json:"signals"` // taken from clients
	Dropped  uint64 `json:"dropped"` // of these, and of other nodes'
	Refused  uint64 `json:"refused"` // clients that were disconnected
}

// Name implements door.Door.
func (d *Door) Name() string { return Name }

// Stats implements door.Door.
func (d *Door) Stats() any {
	clients, full := d.places.Count()
	return Stats{
		Clients: clients, Full: full, Members: int(d.members.Load()), Messages: d.messages.Load(),
		Signals: d.signals.Load(), Dropped: d.dropped.Load(), Refused: d.refused.Load(),
	}
}

// Register implements door.Door.
func (d *Door) Register(sockets, plain *http.ServeMux) {
	for _, path := range []string{Path, Path + "/{$}"} {
		sockets.HandleFunc(path, d.serve)
		plain.HandleFunc("GET "+path, upgradeRequired)
	}
}

// upgradeRequired is what the reference server, which is bare "ws", says to a
// browser that is pointed at it.
func upgradeRequired(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain")
	w.WriteHeader(http.StatusUpgradeRequired)
	_, _ = w.Write([]byte("Upgrade Required"))
}

func (d *Door) serve(w http.ResponseWriter, q *http.Request) {
	d.cfg.Host.Upgrade(w, q, door.Socket{}, func(c *door.Conn) door.Session {
		if !d.places.Take() {
			c.CloseLater(protocol.CloseTryAgainLater, "this node has all the RxDB clients that it takes; use another node")
			return door.Deaf{}
		}
		return open(d, c)
	})
}
