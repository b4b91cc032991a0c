package peerjs

import (
	"github.com/peerservers/peerserver/node/door/scan"
	"github.com/peerservers/peerserver/protocol"
)

// kind is what a message from one client to another is, as one byte on a link.
type kind byte

// Kinds. Their numbers are the wire's.
const (
	offer kind = iota + 1
	answered
	candidate
	leave
	expire
	heartbeat // stays here
)

// String is the type that clients know.
func (k kind) String() string {
	switch k {
	case offer:
		return "OFFER"
	case answered:
		return "ANSWER"
	case candidate:
		return "CANDIDATE"
	case leave:
		return "LEAVE"
	case expire:
		return "EXPIRE"
	case heartbeat:
		return "HEARTBEAT"
	}
	return ""
}

// waits says whether a message waits for who it is for.
func (k kind) waits() bool { return k == offer || k == answered || k == candidate }

// Frames without fields, as the reference server writes them.
const (
	opened  = `{"type":"OPEN"}`
	idTaken = `{"type":"ID-TAKEN","payload":{"msg":"ID is taken"}}`
)

// failure is ERROR. msg needs no escapes.
func failure(msg string) string { return `{"type":"ERROR","payload":{"msg":"` + msg + `"}}` }

// What ERROR says. The first three are the reference server's.
const (
	msgParameters = "No id, token, or key supplied to websocket server"
	msgKey        = "Invalid key provided"
	msgFull       = "Server has reached its concurrent user limit"
	msgID         = "Invalid id provided: letters and digits, with single spaces, dashes or underscores between them, at most 64"
	msgLarge      = "A message is too large: the payload may have 57343 bytes, the message 65536"
	msgRate       = "Too many messages"
)

// message is what a client sent. Its bytes are those of the frame.
type message struct {
	kind    kind
	dst     string
	rawDst  []byte // as JSON, nil when there was none
	payload []byte // as JSON, nil when there was none
}

var fieldNames = []string{"type", "dst", "payload"}

// parse reads a client's frame. Of what the reference server ignores or fails
// at it says not ok. A frame has to be UTF-8: else a browser that is sent its
// payload hangs up.
func parse(b []byte) (m message, ok bool) {
	var v [3]scan.Value
	if !scan.Pick(b, fieldNames, v[:]) {
		return m, false
	}
	name, _ := v[0].Text()
	m.dst, _ = v[1].Text()
	m.rawDst, m.payload = v[1].JSON, v[2].JSON
	for k := offer; k <= heartbeat; k++ {
		if k.String() == name {
			m.kind = k
			return m, true
		}
	}
	return m, false
}

// wire is a message on a link: its kind, then its payload as it came. Who it is
// from and for the link says itself.
func (m *message) wire() []byte {
	return append(append(make([]byte, 0, 1+len(m.payload)), byte(m.kind)), m.payload...)
}

// readWire reads what wire wrote. What comes from another node is looked at:
// who is sent it would have to hang up on what is no UTF-8, or no JSON.
func readWire(b []byte, foreign bool) (m message, ok bool) {
	if len(b) == 0 || len(b) > protocol.MaxPayload || kind(b[0]) < offer || kind(b[0]) > expire {
		return m, false
	}
	m.kind, m.payload = kind(b[0]), b[1:]
	if foreign && len(m.payload) > 0 && !scan.Valid(m.payload) {
		return m, false
	}
	return m, true
}

// appendFrame writes what a client is sent of another. src and dst are JSON.
func appendFrame(b []byte, k kind, src, dst, payload []byte) []byte {
	b = append(append(b, `{"type":"`...), k.String()...)
	b = append(append(b, `","src":`...), src...)
	b = append(append(b, `,"dst":`...), dst...)
	if len(payload) > 0 {
		b = append(append(b, `,"payload":`...), payload...)
	}
	return append(b, '}')
}

// quote makes JSON of a valid id.
func quote(id string) []byte { return append(append([]byte{'"'}, id...), '"') }
