// Package peerjs is the door for PeerJS: what the peerjs client speaks to the
// peer server.
//
// An app is a key, a member an id, which one client at a time has on all nodes
// together: it is claimed with a token. client.go is one socket and its id,
// forward.go what it sends and is sent, message.go the frames, http.go what a
// client asks for before it connects, directory.go the list of ids where an
// operator allows it.
package peerjs

import (
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/relay"
)

// Name is the door's namespace in protocol.App.
const Name = "peerjs"

// Config is what a Door is made from. Host and Relay are needed.
type Config struct {
	Host    *door.Host
	Relay   *relay.Relay
	Clients int // at most so many at a time; 0 is no bound
	// Discovery are the keys whose ids anybody may list.
	Discovery []string
}

// Door is the door. Use New.
type Door struct {
	// Static after New.
	cfg         Config
	tag         protocol.NodeTag
	directories map[string]*directory // by key

	places                                     door.Places
	members                                    atomic.Int64
	messages, relayed, expired, taken, refused atomic.Uint64
}

// New makes the door.
func New(cfg Config) *Door {
	d := &Door{cfg: cfg, tag: cfg.Relay.ID().Tag(), directories: make(map[string]*directory)}
	d.places.Max = cfg.Clients
	for _, key := range cfg.Discovery {
		d.directories[key] = &directory{app: app(key), ids: make(map[string]struct{})}
	}
	return d
}

func app(key string) protocol.AppID { return protocol.App(Name, []byte(key), nil) }

// Stats are the door's totals.
type Stats struct {
	Clients  int    `json:"clients"` // sockets
	Full     uint64 `json:"full"`    // clients for which there was no place
	Members  int    `json:"members"` // of these, that have their id
	Messages uint64 `json:"messages"`
	Relayed  uint64 `json:"relayed"` // to clients here
	Expired  uint64 `json:"expired"` // EXPIRE: somebody was not found
	Taken    uint64 `json:"taken"`   // ID-TAKEN
	Refused  uint64 `json:"refused"` // ERROR
}

// Name implements door.Door.
func (d *Door) Name() string { return Name }

// Stats implements door.Door.
func (d *Door) Stats() any {
	clients, full := d.places.Count()
	return Stats{
		Clients: clients, Full: full, Members: int(d.members.Load()), Messages: d.messages.Load(), Relayed: d.relayed.Load(),
		Expired: d.expired.Load(), Taken: d.taken.Load(), Refused: d.refused.Load(),
	}
}

// Register implements door.Door. A client that is told the path "/" finds its
// socket at /peerjs, with any key, but asks for an id at /KEY/id: at the root
// only the usual key is served, others below /peerjs-server/.
func (d *Door) Register(sockets, plain *http.ServeMux) {
	sockets.HandleFunc("/peerjs", d.serve)
	sockets.HandleFunc("/peerjs-server/peerjs", d.serve)
	plain.HandleFunc("GET /peerjs/id", d.id)
	plain.HandleFunc("GET /peerjs/peers", func(w http.ResponseWriter, q *http.Request) { d.peers(w, q, usualKey) })
	plain.HandleFunc("GET /peerjs-server/{$}", Describe)
	plain.HandleFunc("GET /peerjs-server/{key}/id", d.id)
	plain.HandleFunc("GET /peerjs-server/{key}/peers", func(w http.ResponseWriter, q *http.Request) { d.peers(w, q, q.PathValue("key")) })
}

func (d *Door) serve(w http.ResponseWriter, q *http.Request) {
	p := parseQuery(q.URL.RawQuery)
	d.cfg.Host.Upgrade(w, q, door.Socket{Token: p.key, Deny: d.Deny}, func(c *door.Conn) door.Session {
		s := &client{d: d, c: c}
		s.open(p)
		return s
	})
}

// Deny implements door.Denier.
func (d *Door) Deny(c *door.Conn, _ string) {
	d.refused.Add(1)
	write(c, failure(msgKey))
}

// Key implements door.Keyed: the key of a client may be the node's token. Who
// asks for an id says nothing but the key, and is told nothing of the others.
func (d *Door) Key(q *http.Request) (token string, anybody bool) {
	switch path := strings.Split(q.URL.Path, "/"); {
	case q.URL.Path == "/peerjs-server/", q.URL.Path == "/peerjs/id":
		return "", true
	case len(path) == 4 && path[1] == "peerjs-server":
		return path[2], path[3] == "id"
	}
	return "", false
}
