// Package native is the door for Peerserver's own clients: package peer, and
// the browser's SDK.
//
// A client proves its key when it connects, joins apps with a signed presence,
// is shown the others and sends them envelopes that no node can read. The wire
// is in protocol/peerserver.proto, "The native door"; session.go is one socket,
// member.go one membership.
package native

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/relay"
)

// Name is the door's namespace in protocol.App.
const Name = "peer"

const (
	path        = "/v1"
	subprotocol = "peerserver.v1"
)

// Config is what a Door is made from.
type Config struct {
	Host  *door.Host
	Relay *relay.Relay
	Key   ed25519.PrivateKey // of the node
	// IsOwn says whether a URL that a client dialled is one of this node's;
	// host is what the request was for.
	IsOwn func(url, host string) bool
	// Nodes are the records of this node and of others that a client may go to.
	Nodes func() []*protocol.SignedRecord
	// ICE are the STUN and TURN servers for a peer, its PeerID being 32 bytes, that
	// has dialled a host: it is told of them when it joins, and when it asks. Nil,
	// or none: there are none. It does not block, and any number of goroutines may
	// call it.
	ICE func(peer []byte, host string) *protocol.IceServers
	// RelayData is how many bytes of relayed data a peer may send in a second,
	// and twice as many at once; 0 is none.
	RelayData int
	Clients   int // at most so many at a time; 0 is no bound
}

// Door is the native door. Use New.
type Door struct {
	cfg    Config
	keeper *keeper
	places door.Places

	sessions, members                    atomic.Int64
	messages, refused, sends, broadcasts atomic.Uint64
	dataMessages, dataBytes, dataRefused atomic.Uint64
}

// New makes the door.
func New(cfg Config) *Door {
	return &Door{cfg: cfg, keeper: newKeeper(), places: door.Places{Max: cfg.Clients}}
}

// Serve keeps the members whose sockets broke until ctx ends. Without it they
// are lost at once.
func (d *Door) Serve(ctx context.Context) error {
	d.keeper.serve(ctx)
	return nil
}

// Stats are the door's totals.
type Stats struct {
	Sessions   int    `json:"sessions"` // sockets
	Members    int    `json:"members"`
	Kept       int    `json:"kept"` // members whose socket broke, and that may come back
	Held       int    `json:"held"` // bytes of what has come for them
	Messages   uint64 `json:"messages"`
	Sent       uint64 `json:"sent"` // envelopes passed on
	Broadcasts uint64 `json:"broadcasts"`
	Refused    uint64 `json:"refused"` // requests, and envelopes that did not arrive
	// Of what was sent, data between peers without a direct path.
	DataMessages uint64 `json:"data_messages"`
	DataBytes    uint64 `json:"data_bytes"`
	DataRefused  uint64 `json:"data_refused"` // for being too much
	Full         uint64 `json:"full"`         // clients for which there was no room
}

// Name implements door.Door.
func (d *Door) Name() string { return Name }

// Stats implements door.Door.
func (d *Door) Stats() any {
	_, full := d.places.Count()
	return Stats{
		Full: full, Sessions: int(d.sessions.Load()), Members: int(d.members.Load()), Kept: d.keeper.count(), Held: int(d.keeper.bytes.Load()),
		Messages: d.messages.Load(), Sent: d.sends.Load(), Broadcasts: d.broadcasts.Load(), Refused: d.refused.Load(),
		DataMessages: d.dataMessages.Load(), DataBytes: d.dataBytes.Load(), DataRefused: d.dataRefused.Load(),
	}
}

// Register implements door.Door.
func (d *Door) Register(sockets, _ *http.ServeMux) { sockets.HandleFunc(path, d.serve) }

func (d *Door) serve(w http.ResponseWriter, q *http.Request) {
	if !slices.Contains(websocket.Subprotocols(q), subprotocol) {
		http.Error(w, "this is for peers, with WebSocket subprotocol "+subprotocol, http.StatusBadRequest)
		return
	}
	host := q.Host
	socket := door.Socket{Binary: true, Subprotocol: subprotocol, Deny: d.deny}
	d.cfg.Host.Upgrade(w, q, socket, func(c *door.Conn) door.Session {
		if !d.places.Take() {
			return d.turnAway(c)
		}
		s := &session{d: d, c: c, host: host, members: make(map[key]*member)}
		nonce, own := make([]byte, protocol.ChallengeNonce), make([]byte, 4)
		rand.Read(nonce)
		rand.Read(own)
		s.nonce = binary.BigEndian.Uint32(own)
		s.challenge = &protocol.Challenge{Version: protocol.Version, Node: d.cfg.Key.Public().(ed25519.PublicKey), Nonce: nonce}
		d.sessions.Add(1)
		s.write(&protocol.ToPeer{Body: &protocol.ToPeer_Challenge{Challenge: s.challenge}}, door.Reply)
		return s
	})
}

// deny tells a client that it may not come: before a challenge, with the ref of
// no request.
func (d *Door) deny(c *door.Conn, reason string) {
	(&session{d: d, c: c}).tell(0, refuse(protocol.CodeDenied, "%s", reason))
}

// turnAway is for a client for which there is no room.
func (d *Door) turnAway(c *door.Conn) door.Session {
	const why = "this node has as many peers as its operator lets in; use another"
	(&session{d: d, c: c}).tell(0, refuse(protocol.CodeFull, why).after(30*time.Second))
	c.Close(protocol.CloseTryAgainLater, why)
	return door.Deaf{}
}
