// Package native is the door for Peerserver's own clients: package peer, and
// the browser's SDK.
//
// A client proves its key when it connects, joins apps with a signed presence,
// is shown the others and sends them envelopes that no node can read. The wire
// is in protocol/peerserver.proto, "The native door"; session.go is one socket,
// member.go one membership.
package native

import (
	"crypto/rand"
	"net/http"
	"slices"
	"sync/atomic"

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
	Node  protocol.NodeID
	// IsOwn says whether a URL that a client dialled is one of this node's;
	// host is what the request was for.
	IsOwn func(url, host string) bool
	// Nodes are the records of this node and of others that a client may go to.
	Nodes func() []*protocol.SignedRecord
}

// Door is the native door. Use New.
type Door struct {
	cfg                      Config
	sessions, members        atomic.Int64
	messages, refused, sends atomic.Uint64
}

// New makes the door.
func New(cfg Config) *Door { return &Door{cfg: cfg} }

// Stats are the door's totals.
type Stats struct {
	Sessions int    `json:"sessions"` // sockets
	Members  int    `json:"members"`
	Messages uint64 `json:"messages"`
	Sent     uint64 `json:"sent"`    // envelopes passed on
	Refused  uint64 `json:"refused"` // requests, and envelopes that did not arrive
}

// Name implements door.Door.
func (d *Door) Name() string { return Name }

// Stats implements door.Door.
func (d *Door) Stats() any {
	return Stats{
		Sessions: int(d.sessions.Load()), Members: int(d.members.Load()),
		Messages: d.messages.Load(), Sent: d.sends.Load(), Refused: d.refused.Load(),
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
	d.cfg.Host.Upgrade(w, q, door.Socket{Binary: true, Subprotocol: subprotocol}, func(c *door.Conn) door.Session {
		s := &session{d: d, c: c, host: host, members: make(map[key]*member)}
		nonce := make([]byte, protocol.ChallengeNonce)
		rand.Read(nonce)
		s.challenge = &protocol.Challenge{Version: protocol.Version, Node: d.cfg.Node[:], Nonce: nonce}
		d.sessions.Add(1)
		s.write(&protocol.ToPeer{Body: &protocol.ToPeer_Challenge{Challenge: s.challenge}}, door.Reply)
		return s
	})
}
