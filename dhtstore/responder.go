package dhtstore

import (
	"bytes"
	"context"
	"net/netip"
	"sync/atomic"
	"time"
)

// Bounds of the responder.
const (
	maxReply   = 1300 // bytes, so that no reply is fragmented
	maxQueries = 64   // of others, waiting
	sweepEvery = time.Minute
)

// responder answers what others ask, in place of the library, whose answers
// are wrong and whose stores have no bounds. One goroutine works on one query
// after the other and owns all there is to know; what does not fit in its
// queue is lost, as on a busy network.
type responder struct {
	server *server
	queue  chan rawQuery

	// Owned by run.
	items  *itemStore
	peers  *peerStore
	tokens *tokens
	limit  *replyLimiter

	infohashes, stored atomic.Int64 // sizes of the stores, for others to see
}

type rawQuery struct {
	bytes []byte
	from  netip.AddrPort
}

func newResponder(s *server) *responder {
	return &responder{
		server: s, queue: make(chan rawQuery, maxQueries),
		items: newItemStore(), peers: newPeerStore(), tokens: newTokens(),
		limit: newReplyLimiter(s.cfg.Private, time.Now()),
	}
}

// submit hands over a copy of a packet.
func (r *responder) submit(b []byte, from netip.AddrPort) {
	if len(r.queue) == cap(r.queue) {
		r.server.count.limited.Add(1)
		return
	}
	select {
	case r.queue <- rawQuery{append([]byte(nil), b...), from}:
	default:
		r.server.count.limited.Add(1)
	}
}

func (r *responder) run(ctx context.Context) {
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	for {
		select {
		case q := <-r.queue:
			r.handle(q, time.Now())
		case now := <-sweep.C:
			r.items.items.sweep(now)
			r.peers.swarms.sweep(now)
		case <-ctx.Done():
			return
		}
		r.infohashes.Store(int64(r.peers.swarms.len()))
		r.stored.Store(int64(r.items.items.len()))
	}
}

func (r *responder) handle(raw rawQuery, now time.Time) {
	if !r.limit.admit(raw.from, now) {
		r.server.count.limited.Add(1)
		return
	}
	p, _ := parsePacket(raw.bytes) // which receive has found to be one
	q := &query{packet: p, from: raw.from, size: len(raw.bytes)}
	f := r.server.family(raw.from.Addr().Is6())
	b := r.answer(q, f, now)
	if len(b) > maxReply || !r.limit.spend(raw.from, len(b), now) {
		r.server.count.limited.Add(1)
		return
	}
	if r.server.write(b, raw.from) == nil {
		r.server.count.answered.Add(1)
	}
	if !q.wrong && !q.readOnly {
		f.asked(node{q.id, q.from}, now)
	}
}

// answer is the packet to send back.
func (r *responder) answer(q *query, f *family, now time.Time) []byte {
	body, err := r.work(q, f, now)
	b := append(make([]byte, 0, maxReply), 'd')
	if err != nil {
		b = appendRefusal(appendString(b, "e"), *err)
	}
	b = appendEntry(b, "ip", appendAddr(nil, q.from)) // BEP 42
	kind := "e"
	if err == nil {
		kind = "r"
		b = append(appendRaw(b, "r", body), 'e')
	}
	b = appendEntry(b, "t", q.t)
	b = appendEntry(b, "y", kind)
	return append(b, 'e')
}

// work does what is asked, and is the dictionary to reply with but for its
// end.
func (r *responder) work(q *query, f *family, now time.Time) ([]byte, *refusal) {
	q.parseArgs()
	if q.args == nil || q.wrong {
		q.wrong = true
		return nil, &refusal{Code: errProtocol, Msg: "missing or malformed arguments"}
	}
	id := f.id()
	b := appendEntry([]byte{'d'}, "id", id[:])
	switch q.method {
	case "ping":
		return b, nil
	case "announce_peer":
		return b, r.announce(q, now)
	case "put":
		return b, r.put(q, now)
	case psRecord:
		return r.record(b, q)
	}
	if !q.hasTarget {
		return nil, missing(q.method)
	}
	switch q.method {
	case "get":
		return r.get(b, q, now), nil
	case "get_peers":
		return r.getPeers(b, q, now), nil
	default: // find_node, and what is to come: libtorrent's forward compatibility
		return r.appendNodes(b, q), nil
	}
}

// missing is the error for a query that asks for nothing in the DHT.
func missing(method string) *refusal {
	switch method {
	case "get", "get_peers", "find_node":
		return &refusal{Code: errProtocol, Msg: "missing target"}
	}
	return &refusal{Code: errMethod, Msg: "Method Unknown"}
}

// appendNodes adds the closest nodes of the families that are wanted, of that
// of the packet if none is named (BEP 32).
func (r *responder) appendNodes(b []byte, q *query) []byte {
	v6 := q.from.Addr().Is6()
	if q.want4 || !q.want6 && !v6 {
		b = r.appendClosest(b, "nodes", q, false)
	}
	if q.want6 || !q.want4 && v6 {
		b = r.appendClosest(b, "nodes6", q, true)
	}
	return b
}

func (r *responder) appendClosest(b []byte, key string, q *query, v6 bool) []byte {
	f := r.server.family(v6)
	if f == nil {
		return b
	}
	var compact []byte
	for _, n := range f.closest(q.target, 8, r.server.speakable(q.from.Addr())) {
		compact = appendAddr(append(compact, n.ID[:]...), n.Addr)
	}
	return appendEntry(b, key, compact)
}

func (r *responder) get(b []byte, q *query, now time.Time) []byte {
	i := r.items.get(q.target, now)
	fresh := i != nil && (q.seq == nil || !i.mutable || i.Seq > *q.seq)
	if fresh && i.mutable {
		b = appendEntry(b, "k", i.Key[:])
	}
	b = r.appendNodes(b, q)
	if i != nil && i.mutable {
		b = appendInt(appendString(b, "seq"), i.Seq)
		if fresh {
			b = appendEntry(b, "sig", i.Sig[:])
		}
	}
	b = appendEntry(b, "token", r.tokens.issue(q.from.Addr(), now))
	if fresh {
		b = appendRaw(b, "v", i.V)
	}
	return b
}

func (r *responder) getPeers(b []byte, q *query, now time.Time) []byte {
	b = r.appendNodes(b, q)
	b = appendEntry(b, "token", r.tokens.issue(q.from.Addr(), now))
	v6 := q.from.Addr().Is6()
	each := len(appendString(nil, make([]byte, addrLen(v6)+2)))
	room := maxReply - len(b) - len("6:valueslee") - outside(q)
	peers := r.peers.get(q.target, v6, room/each, now)
	if len(peers) == 0 {
		return b
	}
	b = append(appendString(b, "values"), 'l')
	for _, p := range peers {
		b = appendString(b, appendAddr(nil, p))
	}
	return append(b, 'e')
}

// outside is what a reply has around its dictionary.
func outside(q *query) int {
	return len("d2:ip18:1:r1:t32:1:y1:re") + addrLen(q.from.Addr().Is6()) + 2 + len(q.t)
}

func (r *responder) announce(q *query, now time.Time) *refusal {
	if !q.hasTarget {
		return &refusal{Code: errProtocol, Msg: "missing info_hash"}
	}
	if !r.tokens.valid(q.token, q.from.Addr(), now) {
		return &refusal{Code: errProtocol, Msg: "bad token"}
	}
	port := q.port
	if q.implied {
		port = q.from.Port()
	}
	addr := netip.AddrPortFrom(q.from.Addr(), port)
	if !usable(addr) {
		return &refusal{Code: errProtocol, Msg: "no port"}
	}
	r.peers.add(q.target, addr, r.server.sharing(q.from.Addr()), r.owner(q), now)
	return nil
}

func (r *responder) put(q *query, now time.Time) *refusal {
	if !r.tokens.valid(q.token, q.from.Addr(), now) {
		return &refusal{Code: errProtocol, Msg: "bad token"}
	}
	i := storedItem{mutable: q.k != nil}
	if q.v == nil || i.mutable && (len(q.k) != len(i.Key) || len(q.sig) != len(i.Sig) || q.seq == nil) {
		return &refusal{Code: errProtocol, Msg: "missing v, k, sig or seq"}
	}
	i.V = bytes.Clone(q.v)
	if i.mutable {
		i.Key, i.Sig, i.Salt, i.Seq = [32]byte(q.k), [64]byte(q.sig), bytes.Clone(q.salt), *q.seq
	}
	return r.items.put(i, q.cas, r.owner(q), now)
}

// record answers ps_record, a query of our own: the node's signed record, in
// the fields that a get's answer has. The query must be as long as the answer,
// which says nothing to a third party then that it could not be told without
// us.
func (r *responder) record(b []byte, q *query) ([]byte, *refusal) {
	if r.server.cfg.Record == nil {
		return nil, missing(q.method)
	}
	s := r.server.cfg.Record()
	if s == nil {
		return nil, missing(q.method)
	}
	b = appendEntry(b, "k", s.Key)
	b = appendInt(appendString(b, "seq"), s.Seq)
	b = appendEntry(b, "sig", s.Signature)
	b = appendRaw(b, "v", s.Value)
	if q.size < len(b)+outside(q) {
		return nil, &refusal{Code: errProtocol, Msg: "query is shorter than its answer"}
	}
	return b, nil
}

// owner is whose share of a store an entry counts in: nobody's where nodes
// share addresses.
func (r *responder) owner(q *query) netip.Addr {
	if r.server.sharing(q.from.Addr()) {
		return netip.Addr{}
	}
	return network(q.from.Addr())
}
