package ywebrtc

import (
	"bytes"
	"time"

	"github.com/peerservers/peerserver/node/door/scan"
	"github.com/peerservers/peerserver/node/door/topics"
	"github.com/peerservers/peerserver/protocol"
)

// session is one socket: a client, in any number of rooms.
type session struct {
	*topics.Socket
	d      *Door
	number uint64 // tells it from others
}

// The members of a message that the door looks at.
const (
	fieldType = iota
	fieldTopic
	fieldTopics
	fieldData
	fieldClients
	fields
)

var fieldNames = []string{fieldType: "type", fieldTopic: "topic", fieldTopics: "topics", fieldData: "data", fieldClients: "clients"}

// Message implements door.Session. Like the reference server it says nothing to
// what it does not know; unlike it, it goes on.
func (s *session) Message(b []byte) {
	if !s.Takes() {
		return
	}
	defer s.Count()
	var v [fields]scan.Value
	if !scan.Pick(b, fieldNames, v[:]) {
		s.Ignore()
		return
	}
	switch kind, _ := v[fieldType].Text(); kind {
	case "subscribe":
		s.subscribe(v[fieldTopics].JSON)
	case "unsubscribe":
		scan.Strings(v[fieldTopics].JSON, func(topic string, _ []byte) { s.Unsubscribe(topic, s.d.clients.leave) })
	case "publish":
		s.publish(b, v[:])
	case "ping":
		s.Say(`{"type":"pong"}`)
	default:
		s.Ignore()
	}
}

// subscribe takes a list of topics. A client sends it again with each announce,
// so only those that are new cost anything.
func (s *session) subscribe(list []byte) {
	var fresh []string
	if !scan.Strings(list, func(topic string, _ []byte) {
		if s.Subscription(topic) == nil {
			fresh = append(fresh, topic)
		}
	}) {
		s.Ignore()
		return
	}
	if !s.Spend(len(fresh) - 1) {
		return
	}
	for _, topic := range fresh {
		if !s.Subscribe(topic, nil) {
			return
		}
	}
}

func (s *session) publish(b []byte, v []scan.Value) {
	topic, b, ok := payload(b, v)
	if !ok {
		s.Ignore()
		return
	}
	id := clientOf(v[fieldData].JSON)
	if id != "" {
		if sub := s.Subscription(topic); sub != nil {
			s.d.clients.name(sub, id)
		}
		if !s.d.doubles.passSocket(s.d.doubles.ofSockets(topic, id, b), s.number, time.Now()) {
			s.d.dropped.Add(1)
			return
		}
	}
	s.Publish(topic, id, b)
}

// payload is what is passed on of a publish, and the topic that it is for.
func payload(b []byte, v []scan.Value) (topic string, payload []byte, ok bool) {
	topic, ok = v[fieldTopic].Text()
	if !ok || topic == "" || v[fieldClients].Times > 1 {
		return "", nil, false
	}
	if v[fieldClients].Times > 0 { // it is the server's to say
		b = scan.Without(b, &v[fieldClients])
	}
	return topic, bytes.Trim(b, " \t\r\n"), true
}

// Closed implements door.Session.
func (s *session) Closed() {
	s.d.doubles.closed(s.number)
	s.End(s.d.clients.leave)
}

// named begins the member id of a client that says who it is.
const named = '='

var whoNames = []string{"type", "from"}

// clientOf is the member id of the client that sends this data, "" when it does
// not say: in a room with a password data is a string that nobody can read.
func clientOf(data []byte) string {
	var v [2]scan.Value
	if len(data) == 0 || !scan.PickIn(data, whoNames, v[:]) || (!v[0].Is("announce") && !v[0].Is("signal")) {
		return ""
	}
	from, _ := v[1].Text()
	if from == "" || len(from) >= protocol.MaxMemberID {
		return ""
	}
	return string(named) + from
}
