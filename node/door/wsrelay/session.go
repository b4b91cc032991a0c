package wsrelay

import (
	"hash/maphash"

	"github.com/peerservers/peerserver/node/door/scan"
	"github.com/peerservers/peerserver/node/door/topics"
	"github.com/peerservers/peerserver/relay"
)

// session is one socket: a peer, in any number of rooms.
type session struct {
	*topics.Socket
}

var fieldNames = []string{"type", "topic", "payload"}

// Message implements door.Session. Like the reference server it says nothing to
// what it does not know.
func (s *session) Message(b []byte) {
	if !s.Takes() {
		return
	}
	defer s.Count()
	var v [3]scan.Value
	if !scan.Pick(b, fieldNames, v[:]) {
		s.Ignore()
		return
	}
	topic, ok := v[1].Text()
	switch kind, _ := v[0].Text(); {
	case ok && kind == "subscribe":
		s.Subscribe(topic, v[1].JSON)
	case ok && kind == "unsubscribe":
		s.Unsubscribe(topic, (*topics.Subscription).Leave)
	case ok && kind == "publish" && v[2].Times > 0:
		s.Publish(topic, "", v[2].JSON)
	default:
		s.Ignore()
	}
}

// Closed implements door.Session.
func (s *session) Closed() { s.End((*topics.Subscription).Leave) }

// accepts says whether a subscriber is given a publish. One of another node has
// passed no door of ours; it is looked at once for all who are given it.
func (d *Door) accepts(_ *topics.Subscription, e *relay.Event) bool {
	if !e.Foreign {
		return true
	}
	h := maphash.Bytes(d.seed, e.Payload)
	if d.checked.Load() == h {
		return true
	}
	if !scan.Valid(e.Payload) {
		return false
	}
	d.checked.Store(h)
	return true
}

// appendPublish writes what a subscriber is told: the topic as it wrote it, and
// the payload as it came.
func appendPublish(b []byte, s *topics.Subscription, e *relay.Event) []byte {
	b = append(b, `{"topic":`...)
	b = append(b, s.Quoted...)
	b = append(b, `,"payload":`...)
	b = append(b, e.Payload...)
	return append(b, '}')
}
