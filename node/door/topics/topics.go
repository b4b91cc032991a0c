// Package topics is what the doors of y-webrtc and of Trystero's ws-relay have in
// common: sockets that subscribe to topics, and publish to those and to others.
//
// An app is a topic, a member a subscription. A [Hub] is the common part of a
// door, a [Socket] that of a client's session.
package topics

import (
	"bytes"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/relay"
)

// MaxTopic is how long a topic may be, in bytes: room names are short, and a
// client may have 1,000.
const MaxTopic = 512

// Config is what a Hub is made from.
type Config struct {
	Name    string // the namespace in protocol.App
	Host    *door.Host
	Relay   *relay.Relay
	Clients int  // at most so many at a time; 0 is no bound
	Counts  bool // publishes come with the number of subscribers

	// Accepts says whether a subscriber is given a publish; Append appends what
	// it is told then. Both are called while the swarm is locked.
	Accepts func(s *Subscription, e *relay.Event) bool
	Append  func(b []byte, s *Subscription, e *relay.Event) []byte
}

// Hub is what the clients of a door share. Use NewHub.
type Hub struct {
	cfg    Config
	places door.Places

	messages, published, delivered, bad, refused atomic.Uint64

	mu   sync.Mutex
	here map[protocol.AppID]int // subscriptions
	all  int
}

// NewHub makes a Hub.
func NewHub(cfg Config) *Hub {
	return &Hub{cfg: cfg, places: door.Places{Max: cfg.Clients}, here: make(map[protocol.AppID]int)}
}

// Stats are totals of a door.
type Stats struct {
	Clients       int    `json:"clients"`
	Full          uint64 `json:"full"`   // clients for which there was no place
	Topics        int    `json:"topics"` // that somebody here is subscribed to
	Subscriptions int    `json:"subscriptions"`
	Messages      uint64 `json:"messages"`
	Published     uint64 `json:"published"`
	Delivered     uint64 `json:"delivered"` // once for each subscriber here
	Ignored       uint64 `json:"ignored"`   // messages that are none of the protocol
	Refused       uint64 `json:"refused"`   // clients and messages over a limit
}

// Stats are the totals so far.
func (h *Hub) Stats() Stats {
	clients, full := h.places.Count()
	h.mu.Lock()
	defer h.mu.Unlock()
	return Stats{
		Clients: clients, Full: full, Topics: len(h.here), Subscriptions: h.all, Messages: h.messages.Load(), Published: h.published.Load(),
		Delivered: h.delivered.Load(), Ignored: h.bad.Load(), Refused: h.refused.Load(),
	}
}

// Serve upgrades clients.
func (h *Hub) Serve(open func(*door.Conn) door.Session) http.HandlerFunc {
	return func(w http.ResponseWriter, q *http.Request) { h.cfg.Host.Upgrade(w, q, door.Socket{}, open) }
}

// App is the AppID of a topic.
func (h *Hub) App(topic string) protocol.AppID { return protocol.App(h.cfg.Name, []byte(topic), nil) }

// Has says whether a client here is a member of a topic under that id.
func (h *Hub) Has(topic, id string) bool { return h.cfg.Relay.Has(h.App(topic), id) }

// count adds a subscription to the totals, or takes it off.
func (h *Hub) count(app protocol.AppID, by int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all += by
	if h.here[app] += by; h.here[app] == 0 {
		delete(h.here, app)
	}
}

// isHere says whether anybody here is subscribed.
func (h *Hub) isHere(app protocol.AppID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.here[app] > 0
}

// Likely says, at no cost, whether a client's first message can be of these
// doors at all. At / most are announces of some KB to a tracker.
func Likely(first []byte) bool { return len(first) <= 64 || bytes.Contains(first, []byte("topic")) }
