package signals

import (
	"time"

	"github.com/peerservers/peerserver/testnet/bench/gear"
)

// message is what a server sends, as far as a client needs it: the JSON of its
// fields, which point into the message.
type message struct {
	kind                 []byte // "type"
	src, dst, payload    []byte // of PeerJS
	topic, data, clients []byte // of y-webrtc
}

// Set implements gear.Fields.
func (m *message) Set(name, v []byte) {
	switch string(name) {
	case "type":
		m.kind = v
	case "src":
		m.src = v
	case "dst":
		m.dst = v
	case "payload":
		m.payload = v
	case "topic":
		m.topic = v
	case "data":
		m.data = v
	case "clients":
		m.clients = v
	}
}

// what is what a message means to a client.
type what uint8

const (
	nothing what = iota
	ready        // the client is a member
	signal
	refusal
)

// dialect is a protocol.
type dialect interface {
	// path is that of a client's URL.
	path(c *client) string
	// join makes a client a member; the server's answer is ready.
	join(c *client)
	// alive is sent every now and then.
	alive() (text string, every time.Duration)
	// echoes says whether a client gets its own signals.
	echoes() bool
	// read says what a message is.
	read(m *message) what
	// body is the part of a signal that its sender made.
	body(m *message) []byte
	// addressed says whether the rest of a signal is right: it came to c, from
	// one with this kind.
	addressed(c, from *client, m *message, x gear.Payload) bool
	// appendBody appends the body of a signal, appendSignal all of what c sends.
	appendBody(b []byte, from, to *client, p *gear.Payloads, x gear.Payload) []byte
	appendSignal(b []byte, from, to *client, p *gear.Payloads, x gear.Payload) []byte
}

// probe is a signal that is sent until it arrives, before those that count.
const probe gear.Kind = 'p'

// kindOf is the kind of a signal by its number: the order of a real connection.
func kindOf(seq uint32) gear.Kind {
	return [...]gear.Kind{gear.Offer, gear.Answer, gear.Candidate, gear.Candidate}[seq%4]
}
