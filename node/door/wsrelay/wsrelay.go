// Package wsrelay is the door for Trystero's ws-relay strategy: its relay server.
//
// An app is a topic, a member a client that is subscribed to it. Peers announce
// themselves to the topic of their room, and send offers and answers to one of
// the receiving peer, which that peer alone is subscribed to and which nobody
// derives from the room's: the relay asks other nodes for a topic that nobody
// here has (see relay.Relay.Publish).
package wsrelay

import (
	"hash/maphash"
	"io"
	"net/http"
	"sync/atomic"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/node/door/scan"
	"github.com/peerservers/peerserver/node/door/topics"
	"github.com/peerservers/peerserver/relay"
)

// Name is the door's namespace in protocol.App.
const Name = "wsrelay"

const path = "/ws-relay"

// Config is what a Door is made from.
type Config struct {
	Host    *door.Host
	Relay   *relay.Relay
	Clients int // at most so many at a time; 0 is no bound
}

// Door is the door. Use New.
type Door struct {
	hub     *topics.Hub
	seed    maphash.Seed
	checked atomic.Uint64 // the hash of the last payload of another node that was found to be JSON
}

// New makes the door.
func New(cfg Config) *Door {
	d := &Door{seed: maphash.MakeSeed()}
	d.hub = topics.NewHub(topics.Config{
		Name: Name, Host: cfg.Host, Relay: cfg.Relay, Clients: cfg.Clients, Accepts: d.accepts, Append: appendPublish,
	})
	return d
}

// Stats are the door's totals.
type Stats = topics.Stats

// Name implements door.Door.
func (d *Door) Name() string { return Name }

// Stats implements door.Door.
func (d *Door) Stats() any { return d.hub.Stats() }

// Register implements door.Door.
func (d *Door) Register(sockets, plain *http.ServeMux) {
	sockets.HandleFunc(path, d.hub.Serve(d.Open))
	sockets.HandleFunc(path+"/{$}", d.hub.Serve(d.Open))
	plain.HandleFunc("GET "+path, upgrade)
	plain.HandleFunc("GET "+path+"/{$}", upgrade)
}

// upgrade is what the reference server answers to whoever wants no WebSocket.
func upgrade(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain")
	w.WriteHeader(http.StatusUpgradeRequired)
	_, _ = io.WriteString(w, http.StatusText(http.StatusUpgradeRequired))
}

// Recognise implements door.Rooted: a client first subscribes to a topic.
func (d *Door) Recognise(first []byte) bool {
	var v [5]scan.Value
	if !topics.Likely(first) || !scan.Pick(first, []string{"type", "topic", "topics", "payload", "action"}, v[:]) || v[4].Times > 0 || v[2].Times > 0 {
		return false
	}
	if _, isText := v[1].Text(); !isText {
		return false
	}
	switch kind, _ := v[0].Text(); kind {
	case "subscribe", "unsubscribe":
		return true
	case "publish":
		return v[3].Times > 0
	}
	return false
}

// Open implements door.Rooted.
func (d *Door) Open(c *door.Conn) door.Session { return &session{d.hub.Open(c)} }
