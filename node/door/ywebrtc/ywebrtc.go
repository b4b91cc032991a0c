// Package ywebrtc is the door for y-webrtc, the WebRTC provider of Yjs: its
// signalling server.
//
// An app is a topic, which is the name of a room; a member is a client that is
// subscribed to it. What a client publishes reaches all subscribers on all
// nodes, unchanged but for the number of them. session.go acts on what a client
// sends, frame.go writes what others sent.
//
// A client that was told two URLs has two sockets and breaks when one message
// comes by both of them. clients.go makes one member of it, on this node, and
// the relay does across nodes; doubles.go drops what it says twice.
package ywebrtc

import (
	"io"
	"net/http"
	"sync/atomic"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/node/door/scan"
	"github.com/peerservers/peerserver/node/door/topics"
	"github.com/peerservers/peerserver/relay"
)

// Name is the door's namespace in protocol.App.
const Name = "ywebrtc"

const path = "/y-webrtc"

// Config is what a Door is made from.
type Config struct {
	Host    *door.Host
	Relay   *relay.Relay
	Clients int // at most so many at a time; 0 is no bound
}

// Door is the door. Use New.
type Door struct {
	hub     *topics.Hub
	clients clients
	doubles doubles
	checked checked

	sockets, dropped atomic.Uint64
}

// New makes the door.
func New(cfg Config) *Door {
	d := &Door{doubles: newDoubles(), clients: newClients()}
	d.hub = topics.NewHub(topics.Config{
		Name: Name, Host: cfg.Host, Relay: cfg.Relay, Clients: cfg.Clients, Counts: true,
		Accepts: d.accepts, Append: appendPublish,
	})
	return d
}

// Stats are the door's totals.
type Stats struct {
	topics.Stats
	Doubles uint64 `json:"doubles"` // what clients with several sockets said twice
}

// Name implements door.Door.
func (d *Door) Name() string { return Name }

// Stats implements door.Door.
func (d *Door) Stats() any { return Stats{Stats: d.hub.Stats(), Doubles: d.dropped.Load()} }

// Register implements door.Door.
func (d *Door) Register(sockets, plain *http.ServeMux) {
	sockets.HandleFunc(path, d.hub.Serve(d.Open))
	sockets.HandleFunc(path+"/{$}", d.hub.Serve(d.Open))
	plain.HandleFunc("GET "+path, okay)
	plain.HandleFunc("GET "+path+"/{$}", okay)
}

// okay is what the reference server answers to whoever wants no WebSocket.
func okay(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain")
	_, _ = io.WriteString(w, "okay")
}

// Recognise implements door.Rooted: a client first subscribes to a list of
// topics.
func (d *Door) Recognise(first []byte) bool {
	var v [5]scan.Value
	if !topics.Likely(first) || !scan.Pick(first, []string{"type", "topics", "topic", "payload", "action"}, v[:]) || v[4].Times > 0 {
		return false
	}
	switch kind, _ := v[0].Text(); kind {
	case "subscribe", "unsubscribe":
		return v[1].Times > 0
	case "publish":
		_, named := v[2].Text()
		return named && v[3].Times == 0
	case "ping":
		return true
	}
	return false
}

// Open implements door.Rooted.
func (d *Door) Open(c *door.Conn) door.Session {
	s := &session{Socket: d.hub.Open(c), d: d, number: d.sockets.Add(1)}
	d.doubles.opened(s.number)
	return s
}
