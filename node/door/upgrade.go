package door

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// writePool is what gorilla asks for when it has something to write; on a hot
// connection that is only control frames, which do not use it.
var writePool sync.Pool

// tcpUpgrader and tlsUpgrader upgrade connections. The answer to the upgrade always fits
// the empty send buffer of a new connection; under TLS there is more to write.
var (
	tcpUpgrader = websocket.Upgrader{
		ReadBufferSize: 128, WriteBufferSize: 512, WriteBufferPool: &writePool,
		CheckOrigin: func(*http.Request) bool { return true }, // Host has looked
	}
	tlsUpgrader = websocket.Upgrader{
		HandshakeTimeout: 10 * time.Second, ReadBufferSize: 128, WriteBufferSize: 512, WriteBufferPool: &writePool,
		CheckOrigin: func(*http.Request) bool { return true },
	}
)

// Socket is what a door speaks over. The zero value sends text.
type Socket struct {
	Binary      bool   // the node sends binary frames
	Subprotocol string // that the client asked for; a browser hangs up when it is not named

	// Token is one that the client has given in a way of its own library; "" is
	// none. Those of path and query are seen without it.
	Token string
	// Deny, if not nil, tells a client that it may not come, in the words of its
	// library; it is closed with protocol.CloseDenied then. See Denier.
	Deny func(c *Conn, reason string)
}

// Upgrade makes a WebSocket of a request, or answers it with an error. open
// makes the session; the Conn is ready to write to, and the session gets its
// first message after open has returned. Who may not come is upgraded as well, told why
// and closed.
func (h *Host) Upgrade(w http.ResponseWriter, q *http.Request, s Socket, open func(*Conn) Session) {
	if !h.enter() {
		http.Error(w, "this node is about to stop; use another", http.StatusServiceUnavailable)
		return
	}
	running := false
	defer func() {
		if !running {
			h.readers.Done()
		}
	}()
	reason := h.Denied(q, s.Token)
	c := &Conn{host: h, opcode: opText}
	if s.Binary {
		c.opcode = opBinary
	}
	peer, _ := netip.ParseAddrPort(q.RemoteAddr)
	if h.trusted(peer.Addr().Unmap()) {
		if !c.takeForwarded(q) {
			h.totals.refusedConns.Add(1)
			http.Error(w, "too many connections from your address", http.StatusTooManyRequests)
			return
		}
	}
	u := &tlsUpgrader
	if q.TLS == nil {
		u = &tcpUpgrader
	}
	var header http.Header
	if s.Subprotocol != "" {
		header = http.Header{"Sec-Websocket-Protocol": {s.Subprotocol}}
	}
	ws, err := u.Upgrade(w, q, header)
	if err != nil {
		c.freeSlot()
		return
	}
	c.attach(ws)
	if reason != "" {
		c.sess = c.turnAway(s, reason)
	} else {
		c.sess = open(c)
	}
	if !h.list(c) {
		c.sess.Closed()
		c.freeSlot()
		c.kill()
		return
	}
	if w, ok := w.(*answer); ok { // there is a goroutine, which goes on
		w.upgraded = true
		return
	}
	running = true
	// A goroutine of its own: the one of net/http holds the request and its
	// buffers for as long as it runs.
	go c.serve()
}

// takeForwarded counts the client that a trusted proxy speaks for.
func (c *Conn) takeForwarded(q *http.Request) bool {
	all := strings.Split(strings.Join(q.Header.Values("X-Forwarded-For"), ","), ",")
	// The last address that is not a proxy of ours: those before it are only
	// what the client claims.
	for _, hop := range slices.Backward(all) {
		a, err := netip.ParseAddr(strings.TrimSpace(hop))
		if err != nil {
			return true
		}
		if a = a.Unmap(); c.host.trusted(a) {
			continue
		}
		if !c.host.bounded(a) {
			return true
		}
		slot, ok := c.host.addresses.open(a)
		c.slot, c.own = slot, ok
		return ok
	}
	return true
}

func (c *Conn) freeSlot() {
	if c.own {
		c.own = false
		c.host.addresses.close(c.slot)
	}
}

// attach takes over the connection of an upgraded request.
func (c *Conn) attach(ws *websocket.Conn) {
	h := c.host
	c.nc = ws.NetConn()
	c.flush = h.flushers[int(h.next.Add(1))%len(h.flushers)]
	if hc := under(c.nc); hc != nil {
		c.under = hc
		if c.slot == nil {
			c.slot = hc.slot
		}
		hc.conn = c
		if c.nc == net.Conn(hc) && hc.prime() {
			hc.hot = true
			c.hot = hc
		}
	}
	if c.hot == nil {
		c.frames = &frames{c: c}
		c.frames.bind(ws)
	}
	now := time.Now().UnixNano()
	c.last.Store(now)
	c.pinged = now
}
