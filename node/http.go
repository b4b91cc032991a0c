package node

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/websocket"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/node/door/peerjs"
	"github.com/peerservers/peerserver/node/ice"
	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/relay"
)

// wellKnown is where a node shows its record.
const wellKnown = "/.well-known/peerserver"

func (n *Node) routes() {
	for _, d := range n.doors {
		d.Register(n.sockets, n.plain)
	}
	n.sockets.HandleFunc("/{$}", n.host.Root(n.rooted()))
	n.sockets.HandleFunc("/link", n.link)
	n.plain.HandleFunc("GET /{$}", n.root)
	n.page.register(n.plain)
	n.plain.HandleFunc("GET /health", n.health)
	n.plain.HandleFunc("GET /stats.json", n.stats)
	n.plain.HandleFunc("GET "+wellKnown, n.record)
	n.plain.HandleFunc("GET /v1/ice", n.iceList)
	n.plain.HandleFunc("GET /v1/seen", n.seen)
}

// rooted are the doors whose clients may be pointed at "/", the tracker last: it
// is what most of them mean, and it answers what nobody recognises.
func (n *Node) rooted() []door.Rooted {
	var list []door.Rooted
	for _, d := range slices.Backward(n.doors) {
		if r, ok := d.(door.Rooted); ok {
			list = append(list, r)
		}
	}
	return list
}

// root is the page, for browsers and for who does not say what it wants. Others
// find there what a PeerJS server has at its root.
func (n *Node) root(w http.ResponseWriter, q *http.Request) {
	w.Header().Add("Vary", "Accept")
	accept := strings.Join(q.Header.Values("Accept"), ",")
	if n.cfg.has(peerjs.Name) && accept != "" && !strings.Contains(accept, "text/html") {
		peerjs.Describe(w, q)
		return
	}
	n.page.index(w, q)
}

// ServeHTTP sends a request to the doors when it asks for a WebSocket, and
// else to the plain pages, which any web page may read.
func (n *Node) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	q = withoutToken(q)
	if websocket.IsWebSocketUpgrade(q) {
		n.sockets.ServeHTTP(w, q)
		return
	}
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("X-Content-Type-Options", "nosniff")
	if q.Method == http.MethodOptions {
		h.Set("Access-Control-Allow-Methods", "GET, POST, OPTIONS")
		h.Set("Access-Control-Allow-Headers", "*")
		h.Set("Access-Control-Max-Age", "86400")
		// Chromium asks this of nodes on a LAN or on loopback.
		if q.Header.Get("Access-Control-Request-Private-Network") == "true" {
			h.Set("Access-Control-Allow-Private-Network", "true")
		}
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if reason := n.denied(q); reason != "" {
		http.Error(w, reason, http.StatusForbidden)
		return
	}
	n.plain.ServeHTTP(w, q)
}

// Stats are the node's totals, as /stats.json shows them. The first four are
// those of bittorrent-tracker.
type Stats struct {
	Torrents       int            `json:"torrents"`
	ActiveTorrents int            `json:"activeTorrents"`
	PeersAll       int            `json:"peersAll"`
	PeersSeeder    int            `json:"peersSeederOnly"`
	PeersLeecher   int            `json:"peersLeecherOnly"`
	Node           string         `json:"node"`
	Version        string         `json:"version"`
	Uptime         int            `json:"uptime"`        // seconds
	Known          int            `json:"known"`         // nodes whose records are known
	DHT            *DHTStats      `json:"dht,omitempty"` // none without the DHT
	TLS            *TLSStats      `json:"tls,omitempty"` // none without TLS
	Relay          relay.Stats    `json:"relay"`
	Clients        door.Stats     `json:"clients"`
	Doors          map[string]any `json:"doors"`
	ICE            *ice.Stats     `json:"ice,omitempty"`   // none without STUN
	Reach          *Reach         `json:"reach,omitempty"` // none on loopback
}

// Stats are the node's totals so far.
func (n *Node) Stats() Stats {
	s := Stats{
		Node: n.ID().String(), Version: n.cfg.Version, Uptime: int(time.Since(n.started) / time.Second), Known: n.Known(),
		DHT: n.finder.stats(), TLS: n.certs.stats(), Relay: n.relay.Stats(), Clients: n.host.Stats(), Doors: make(map[string]any),
	}
	if n.ice != nil {
		i := n.ice.Stats()
		s.ICE = &i
	}
	s.Reach = n.reachStats()
	for _, d := range n.doors {
		s.Doors[d.Name()] = d.Stats()
		if t, ok := d.Stats().(torrents); ok {
			s.Torrents, s.PeersSeeder, s.PeersLeecher = t.Torrents()
			s.ActiveTorrents, s.PeersAll = s.Torrents, s.PeersSeeder+s.PeersLeecher
		}
	}
	return s
}

// torrents is what the statistics of the tracker's door know.
type torrents interface {
	Torrents() (swarms, seeders, leechers int)
}

func (n *Node) stats(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, n.Stats())
}

// Description is what a node says of itself at /.well-known/peerserver. Record
// is what counts: it is signed. The others repeat what is in it, to be read by
// people; without a record the node cannot be dialled.
type Description struct {
	Version  int             `json:"version"`
	Node     protocol.NodeID `json:"node"`
	URLs     []string        `json:"urls"`
	STUNPort uint16          `json:"stun_port,omitempty"`
	TURNPort uint16          `json:"turn_port,omitempty"`
	TURNTLS  []uint16        `json:"turn_tls_ports,omitempty"`
	Load     int             `json:"load"`
	Issued   time.Time       `json:"issued,omitzero"`
	Expires  time.Time       `json:"expires,omitzero"`
	Record   json.RawMessage `json:"record,omitempty"` // SignedRecord as protobuf JSON
}

func (n *Node) record(w http.ResponseWriter, _ *http.Request) {
	d := Description{Version: protocol.Version, Node: n.ID(), URLs: []string{}}
	if own := n.finder.own(); own != nil {
		raw, err := protojson.Marshal(own.Signed)
		if err != nil {
			http.Error(w, "internal", http.StatusInternalServerError)
			return
		}
		d.Record, d.URLs, d.STUNPort, d.TURNPort, d.TURNTLS, d.Load = raw, own.URLs, own.STUNPort, own.TURNPort, own.TURNTLS, own.Load
		d.Issued, d.Expires = time.UnixMilli(own.Seq).UTC(), own.Expires().UTC()
	}
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, http.StatusOK, d)
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "internal", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(append(b, '\n'))
}
