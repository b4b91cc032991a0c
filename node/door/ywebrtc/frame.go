package ywebrtc

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/peerservers/peerserver/node/door/scan"
	"github.com/peerservers/peerserver/node/door/topics"
	"github.com/peerservers/peerserver/relay"
)

// accepts says whether a subscriber is given a publish. One of another node has
// passed no door of ours.
func (d *Door) accepts(s *topics.Subscription, e *relay.Event) bool {
	ours := len(e.From) > 0 && e.From[0] == named
	if !ours && !e.Foreign {
		return true
	}
	h := d.doubles.ofNodes(s.Topic, e.From, e.Payload)
	if e.Foreign && !d.checked.is(h, func() bool { return isPublish(e.Payload, s.Topic) }) {
		return false
	}
	return !ours || d.doubles.passNode(d.doubles.forSubscriber(h, s), d.doubles.node(e.Ref), time.Now())
}

// checked remembers which publish was last found to be good, because it is
// looked at once for each subscriber.
type checked struct{ last atomic.Uint64 }

func (c *checked) is(publish uint64, good func() bool) bool {
	if c.last.Load() == publish {
		return true
	}
	if !good() {
		return false
	}
	c.last.Store(publish)
	return true
}

// isPublish says whether a payload is what publish makes of a client's message.
func isPublish(b []byte, topic string) bool {
	var v [fields]scan.Value
	return scan.Pick(b, fieldNames, v[:]) && b[0] == '{' && b[len(b)-1] == '}' &&
		v[fieldType].Is("publish") && v[fieldTopic].Is(topic) && v[fieldClients].Times == 0
}

// appendPublish writes a publish as it came, with the number of subscribers.
func appendPublish(b []byte, _ *topics.Subscription, e *relay.Event) []byte {
	b = append(b, e.Payload[:len(e.Payload)-1]...)
	b = append(b, `,"clients":`...)
	return append(strconv.AppendInt(b, int64(e.Count), 10), '}')
}
