// Package tracker is the door for WebTorrent's tracker protocol: what
// webtorrent, bittorrent-tracker, p2pt, bugout and Trystero's torrent strategy
// speak to a tracker over a WebSocket.
//
// An app is an infohash, a member its peer_id. Messages are JSON text frames;
// scan.go takes one apart without copying, session.go acts on it, peer.go
// writes what others sent. Offers and answers pass through byte by byte.
package tracker

import (
	"bytes"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/relay"
)

// Name is the door's namespace in protocol.App.
const Name = "tracker"

// Config is what a Door is made from. Host and Relay are needed.
type Config struct {
	Host    *door.Host
	Relay   *relay.Relay
	Clients int // at most so many at a time; 0 is no bound
}

// Door is a tracker. Use New.
type Door struct {
	host  *door.Host
	relay *relay.Relay

	places            door.Places
	seeders, leechers atomic.Int64
	messages, bad     atomic.Uint64

	mu     sync.Mutex
	swarms map[id]int // members here, by infohash
}

// New makes the door.
func New(cfg Config) *Door {
	return &Door{host: cfg.Host, relay: cfg.Relay, places: door.Places{Max: cfg.Clients}, swarms: make(map[id]int)}
}

// Name implements door.Door.
func (d *Door) Name() string { return Name }

// Register implements door.Door.
func (d *Door) Register(sockets, plain *http.ServeMux) {
	sockets.HandleFunc("/announce", d.serve)
	sockets.HandleFunc("/announce/{$}", d.serve)
	plain.HandleFunc("GET /stats", d.stats)
}

func (d *Door) serve(w http.ResponseWriter, q *http.Request) {
	d.host.Upgrade(w, q, door.Socket{Deny: d.Deny}, d.Open)
}

// Recognise implements door.Rooted: every message of a tracker's client names
// its action.
func (d *Door) Recognise(first []byte) bool { return bytes.Contains(first, []byte(`"action"`)) }

// Open implements door.Rooted.
func (d *Door) Open(c *door.Conn) door.Session {
	if !d.places.Take() {
		d.Deny(c, errFull.Error())
		c.Close(protocol.CloseTryAgainLater, errFull.Error())
		return door.Deaf{}
	}
	return &session{d: d, c: c}
}

// Deny implements door.Denier: the client library shows it as a warning.
func (d *Door) Deny(c *door.Conn, reason string) {
	(&session{d: d, c: c}).fail("announce", nil, errors.New(reason))
}

// app is the AppID of an infohash.
func app(hash *id) protocol.AppID { return protocol.App(Name, hash[:], nil) }

// id is an info_hash or a peer_id.
type id [20]byte

// read takes the id that a JSON value stands for.
func (i *id) read(v []byte) bool {
	var room [64]byte
	b, ok := appendBytes(room[:0], v)
	if !ok || len(b) != len(i) {
		return false
	}
	copy(i[:], b)
	return true
}
