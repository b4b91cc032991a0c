package relay

import (
	crand "crypto/rand"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/peerservers/peerserver/protocol"
)

// Neighbour is a linked node, for what its TURN and STUN are good for.
type Neighbour struct {
	Record  *protocol.Record         // verified, the newest that is known; nil when it has none
	Node    protocol.NodeID          //
	RTT     time.Duration            // smallest of the last few pings; 0: not measured yet
	Keys    []*protocol.TurnKeys_Key // what it gave, at most 2; not to be changed
	Address netip.Addr               // of the other end, as seen; may be a proxy's; not valid where it is not known
}

// Neighbours are the nodes that are linked now, in no order.
func (r *Relay) Neighbours() []Neighbour {
	r.mu.Lock()
	links := r.allLinks()
	newest := make(map[protocol.NodeID]*protocol.Record, len(links))
	for _, l := range links {
		if n := r.mesh.nodes[l.node]; n != nil {
			newest[l.node] = n.record
		}
	}
	r.mu.Unlock()
	list := make([]Neighbour, 0, len(links))
	now := time.Now()
	for _, l := range links {
		l.mu.Lock()
		if w := l.w; w != nil && w.resumed {
			n := Neighbour{Node: l.node, Record: l.record, RTT: w.rtt(), Keys: slices.Clone(l.turnKeys), Address: w.remote}
			if rec := newest[l.node]; rec != nil && (n.Record == nil || rec.Seq > n.Record.Seq) {
				n.Record = rec
			}
			if n.Record != nil && (len(n.Record.URLs) == 0 || n.Record.Expires().Before(now)) {
				n.Record = nil
			}
			list = append(list, n)
		}
		l.mu.Unlock()
	}
	return list
}

// RecordChanged tells all linked nodes of this one's record, when it says
// something else than before, or is none any more.
func (r *Relay) RecordChanged() {
	own := r.own()
	if own == nil {
		// What they have is taken back by one that names no URL.
		none := &protocol.Record{Seq: time.Now().UnixMilli(), TTL: protocol.RecordTTL}
		if err := protocol.SignRecord(r.cfg.Key, none); err != nil {
			r.log.Error("own record cannot be taken back", "err", err)
			return
		}
		own = none.Signed
	}
	r.mu.Lock()
	links := r.allLinks()
	r.mu.Unlock()
	for _, l := range links {
		l.mu.Lock()
		if l.w != nil {
			l.w.looseFrame(nodesFrame(0, own))
		}
		l.mu.Unlock()
	}
}

// onOwnRecord takes a newer record of a linked node from itself.
func (r *Relay) onOwnRecord(l *link, signed *protocol.SignedRecord, now instant) {
	l.mu.Lock()
	news := l.record == nil || signed.Seq > l.record.Seq
	l.mu.Unlock()
	if !news || !l.allowKey(now) {
		return
	}
	rec, err := readRecord(signed, l.node)
	if err != nil || rec == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keepRecord(l, rec)
}

// remoteIP is the address of a Conn's other end, not valid where it has none.
func remoteIP(c Conn) netip.Addr {
	a, ok := c.(interface{ RemoteAddr() net.Addr })
	if !ok {
		return netip.Addr{}
	}
	ap, err := netip.ParseAddrPort(a.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

// A link is measured when it comes up and whenever it is quiet, and now and
// then when it is not.
const (
	pingBusy = 30 * time.Second
	rttsKept = 8
)

// ping sends a Ping. Its nonce is random, so that no answer is older than it is.
// Called with l.mu held.
func (w *wire) ping(now instant) {
	var b [8]byte
	crand.Read(b[:])
	w.pinged, w.pingNonce = now, binary.BigEndian.Uint64(b[:])|1
	w.looseFrame(&protocol.Frame{Body: &protocol.Frame_Ping{Ping: &protocol.Ping{Nonce: w.pingNonce}}})
}

// pingDue is called with l.mu held.
func (w *wire) pingDue(now instant) bool {
	since := now - w.pinged
	return since >= ns(protocol.PingQuiet) && (now-w.lastRead >= ns(protocol.PingQuiet) || since >= ns(pingBusy))
}

// onPing answers the last Ping of those that came together, or takes an answer.
func (l *link) onPing(w *wire, f *protocol.Ping) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !f.Answer:
		w.pong = f.Nonce
		w.ackAll = true
		w.wakeUp()
	case f.Nonce == w.pingNonce && f.Nonce != 0:
		w.pingNonce = 0
		w.rtts[w.measured%rttsKept] = max(l.r.now()-w.pinged, 1)
		w.measured++
	}
}

// appendPong adds the answer to a Ping. Called with l.mu held.
func (w *wire) appendPong(b []byte) []byte {
	if w.pong == 0 {
		return b
	}
	body, err := proto.Marshal(&protocol.Frame{Body: &protocol.Frame_Ping{Ping: &protocol.Ping{Nonce: w.pong, Answer: true}}})
	w.pong = 0
	if err != nil {
		return b
	}
	e := outgoing{body: body}
	return e.appendFrame(b)
}

// rtt is the smallest of the last few. Called with l.mu held.
func (w *wire) rtt() time.Duration {
	n := min(w.measured, rttsKept)
	if n == 0 {
		return 0
	}
	return time.Duration(slices.Min(w.rtts[:n]))
}

// turnDays is how far from today the day of a TURN key may be: a key is for
// today or tomorrow by the clock of the other node, which may be wrong.
const turnDays = 2

// renew gives the other node what ends with time, each hour: our record, which it
// has of the handshake at first, and its keys for our TURN server.
func (w *wire) renew(now instant, first bool) {
	l := w.l
	var keys []*protocol.TurnKeys_Key
	if l.r.cfg.TURNKeys != nil {
		keys = l.r.cfg.TURNKeys(l.node)
	}
	var own *protocol.SignedRecord
	if !first {
		own = l.r.own()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	w.renewed = now
	if own != nil {
		w.looseFrame(nodesFrame(0, own))
	}
	if len(keys) > 0 {
		w.looseFrame(&protocol.Frame{Body: &protocol.Frame_TurnKeys{TurnKeys: &protocol.TurnKeys{Keys: keys}}})
	}
}

// onTurnKeys takes what the other node's TURN server gives. What makes no sense
// is left out as a whole, and changes nothing.
func (l *link) onTurnKeys(f *protocol.TurnKeys) {
	if len(f.Keys) > maxTurnKeys {
		return
	}
	today := uint32(time.Now().Unix() / (24 * 60 * 60))
	for i, k := range f.Keys {
		if len(k.Key) != turnKeySize || k.Day+turnDays < today || k.Day > today+turnDays {
			return
		}
		if i > 0 && k.Day == f.Keys[0].Day {
			return
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turnKeys = f.Keys
}

const (
	maxTurnKeys = 2 // today's and tomorrow's
	turnKeySize = 32
)

// Known are the records of at most n nodes, linked or not, in no order.
func (r *Relay) Known(n int) []*protocol.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]*protocol.Record, 0, min(n, len(r.mesh.nodes)))
	for _, other := range r.mesh.nodes {
		if len(list) == n {
			break
		}
		list = append(list, other.record)
	}
	return list
}
