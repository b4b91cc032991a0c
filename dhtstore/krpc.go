package dhtstore

import (
	"net/netip"

	"github.com/anacrolix/dht/v2/krpc"
)

// KRPC (BEP 5) as it comes from the network. A packet is parsed here and
// nowhere else: the library's decoder panics on some, allocates 128 MB on
// others, and logs the rest. It gets answers only, written anew from the
// fields that we have understood.

// What is read. A query has at most a value of 1,000 bytes with its signature;
// an answer may have far more, as npm's bittorrent-dht names all nodes it knows.
const (
	maxQuery  = 2048
	maxPacket = 16 << 10
)

// maxTransaction is the longest transaction id of others.
const maxTransaction = 32

// refusal is an error that a node answers with.
type refusal = krpc.Error

// Errors of KRPC, and of BEP 44.
const (
	errProtocol  = krpc.ErrorCodeProtocolError
	errMethod    = krpc.ErrorCodeMethodUnknown
	errTooBig    = krpc.ErrorCodeMessageValueFieldTooBig
	errSignature = krpc.ErrorCodeInvalidSignature
	errSalt      = krpc.ErrorCodeSaltFieldTooBig
	errCAS       = krpc.ErrorCodeCasHashMismatched
	errSeq       = krpc.ErrorCodeSequenceNumberLessThanCurrent
)

// packet is the outside of a message. Its parts lie in the bytes it was parsed
// from.
type packet struct {
	t        []byte
	kind     byte   // q, r or e
	method   string // of a query
	readOnly bool   // BEP 43: the sender answers nothing
	ip       []byte // BEP 42: our address as the sender sees it
	args     []byte // value of a, r or e; nil if there is none
}

// parsePacket says whether the bytes are a message. What follows it is ignored.
func parsePacket(b []byte) (p packet, ok bool) {
	if len(b) > maxPacket || len(b) == 0 || b[0] != 'd' {
		return p, false
	}
	n := measure(b, maxDepth)
	if n < 0 {
		return p, false
	}
	var bodies [3][]byte
	for key, value := range entriesOf(b[:n]) {
		switch key {
		case "t":
			p.t, _ = stringOf(value)
		case "y":
			if y, ok := stringOf(value); ok && len(y) == 1 {
				p.kind = y[0]
			}
		case "q":
			q, _ := stringOf(value)
			p.method = string(q)
		case "ro":
			ro, _ := intOf(value)
			p.readOnly = ro != 0
		case "ip":
			p.ip, _ = stringOf(value)
		case "a":
			bodies[0] = value
		case "r":
			bodies[1] = value
		case "e":
			bodies[2] = value
		}
	}
	switch p.kind {
	case 'q':
		p.args = bodies[0]
	case 'r':
		p.args = bodies[1]
	case 'e':
		p.args = bodies[2]
	default:
		return p, false
	}
	return p, len(p.t) > 0 && len(p.t) <= maxTransaction && (p.kind != 'q' || len(b) <= maxQuery)
}

// sender is the id of who answers.
func (p *packet) sender() (id [20]byte, ok bool) {
	if p.kind != 'r' {
		return id, false
	}
	for key, value := range entriesOf(p.args) {
		if s, isString := stringOf(value); isString && key == "id" {
			ok = len(s) == len(id)
			copy(id[:], s)
		}
	}
	return id, ok
}

// query is what somebody asks.
type query struct {
	packet
	from netip.AddrPort
	size int // of the packet

	wrong      bool // an argument is of the wrong type or size
	id         [20]byte
	target     [20]byte // or info_hash
	hasTarget  bool
	token      []byte
	port       uint16
	implied    bool
	want4      bool
	want6      bool
	v, k, salt []byte
	sig        []byte
	seq, cas   *int64
}

// parseArgs fills in the arguments. Those it does not know it skips.
func (q *query) parseArgs() {
	hasID := false
	for key, value := range entriesOf(q.args) {
		switch key {
		case "id":
			hasID = q.array(&q.id, value)
		case "target", "info_hash":
			q.hasTarget = q.array(&q.target, value)
		case "token":
			q.token = q.str(value)
		case "port":
			n, ok := intOf(value)
			q.wrong = q.wrong || !ok || n < 0 || n > 65535
			q.port = uint16(n)
		case "implied_port":
			n, _ := intOf(value)
			q.implied = n != 0
		case "want":
			q.wants(value)
		case "v":
			q.v = value
		case "k":
			q.k = q.str(value)
		case "salt":
			q.salt = q.str(value)
		case "sig":
			q.sig = q.str(value)
		case "seq":
			q.seq = q.int(value)
		case "cas":
			q.cas = q.int(value)
		}
	}
	q.wrong = q.wrong || !hasID
}

func (q *query) str(value []byte) []byte {
	s, ok := stringOf(value)
	q.wrong = q.wrong || !ok
	return s
}

func (q *query) int(value []byte) *int64 {
	n, ok := intOf(value)
	q.wrong = q.wrong || !ok
	return &n
}

func (q *query) array(to *[20]byte, value []byte) bool {
	s := q.str(value)
	q.wrong = q.wrong || len(s) != len(to)
	return copy(to[:], s) == len(to)
}

// wants reads BEP 32's list of families. Some send a string for one.
func (q *query) wants(value []byte) {
	one := func(s []byte) {
		q.want4 = q.want4 || string(s) == "n4"
		q.want6 = q.want6 || string(s) == "n6"
	}
	if s, ok := stringOf(value); ok {
		one(s)
	}
	for item := range itemsOf(value) {
		s, _ := stringOf(item)
		one(s)
	}
}

// What is taken of one answer.
const (
	maxReplyNodes = 16
	maxReplyPeers = 256
	maxToken      = 128
)

// cleanReply writes an answer or error anew, from a node of the given family,
// with the transaction id t, for the library. keep says which addresses may be
// named in it. What makes no sense is left out; not ok is an answer that makes
// none at all.
func (p *packet) cleanReply(t []byte, v6 bool, keep func(netip.AddrPort) bool) (b []byte, ok bool) {
	b = append(b, 'd')
	if p.kind == 'e' {
		b = appendString(b, "e")
		b = appendRefusal(b, parseRefusal(p.args))
	} else {
		b = appendString(b, "r")
		if b, ok = p.appendReturn(b, v6, keep); !ok {
			return nil, false
		}
	}
	b = appendEntry(b, "t", t)
	b = appendEntry(b, "y", string(p.kind))
	return append(b, 'e'), true
}

func (p *packet) appendReturn(b []byte, v6 bool, keep func(netip.AddrPort) bool) ([]byte, bool) {
	var id, k, sig, token, v, nodes, values, seq []byte
	nodesKey := "nodes"
	if v6 {
		nodesKey = "nodes6"
	}
	for key, value := range entriesOf(p.args) {
		s, _ := stringOf(value)
		switch key {
		case "id":
			id = s
		case "k":
			k = s
		case "sig":
			sig = s
		case "token":
			token = s
		case nodesKey:
			nodes = s
		case "values":
			values = value
		case "seq":
			seq = value
		case "v":
			v = value
		}
	}
	if len(id) != 20 {
		return nil, false
	}
	_, hasSeq := intOf(seq)
	whole := len(k) == 32 && len(sig) == 64 && hasSeq && len(v) > 0 && len(v) <= maxValue
	b = appendEntry(append(b, 'd'), "id", id)
	if whole {
		b = appendEntry(b, "k", k)
	}
	if compact := cleanNodes(nodes, v6, keep); len(compact) > 0 {
		b = appendEntry(b, nodesKey, compact)
	}
	if hasSeq {
		b = appendRaw(b, "seq", seq)
	}
	if whole {
		b = appendEntry(b, "sig", sig)
	}
	if len(token) > 0 && len(token) <= maxToken {
		b = appendEntry(b, "token", token)
	}
	if whole {
		b = appendRaw(b, "v", v)
	}
	b = appendPeers(b, values, v6, keep)
	return append(b, 'e'), true
}

// cleanNodes keeps the nodes that can be asked, each address once.
func cleanNodes(nodes []byte, v6 bool, keep func(netip.AddrPort) bool) (b []byte) {
	size := 20 + addrLen(v6) + 2
	seen := make(map[netip.AddrPort]bool, 8)
	for ; len(nodes) >= size && len(seen) < maxReplyNodes; nodes = nodes[size:] {
		a, ok := parseAddr(nodes[20:size], v6)
		if ok && !seen[a] && keep(a) {
			seen[a] = true
			b = append(b, nodes[:size]...)
		}
	}
	return b
}

func appendPeers(b, values []byte, v6 bool, keep func(netip.AddrPort) bool) []byte {
	n := 0
	for item := range itemsOf(values) {
		s, _ := stringOf(item)
		a, ok := parseAddr(s, v6)
		if !ok || !keep(a) {
			continue
		}
		if n == 0 {
			b = append(appendString(b, "values"), 'l')
		}
		b = appendString(b, s)
		if n++; n == maxReplyPeers {
			break
		}
	}
	if n > 0 {
		b = append(b, 'e')
	}
	return b
}

// parseRefusal reads the list of a code and a text, or what comes near it.
func parseRefusal(e []byte) (r refusal) {
	r.Code = krpc.ErrorCodeGenericError
	if s, ok := stringOf(e); ok {
		r.Msg = string(s)
	}
	for item := range itemsOf(e) {
		if n, ok := intOf(item); ok && n > 0 && n < 1000 {
			r.Code = int(n)
		}
		if s, ok := stringOf(item); ok {
			r.Msg = string(s)
		}
	}
	r.Msg = r.Msg[:min(len(r.Msg), 100)]
	return r
}

func appendRefusal(b []byte, r refusal) []byte {
	b = appendInt(append(b, 'l'), int64(r.Code))
	return append(appendString(b, r.Msg), 'e')
}
