package signals

import (
	"strconv"
	"time"

	"github.com/peerservers/peerserver/testnet/bench/gear"
)

// ywebrtc is the protocol of y-webrtc's signalling: topics, and publishes that
// come back to who sent them.
type ywebrtc struct{}

func (ywebrtc) path(*client) string { return "/y-webrtc" }

// join subscribes, and asks for an answer to what comes after it.
func (ywebrtc) join(c *client) {
	for _, text := range []string{`{"type":"subscribe","topics":["` + c.topic + `"]}`, `{"type":"ping"}`} {
		c.send(func(b []byte) []byte { return append(b, text...) })
	}
}

func (ywebrtc) alive() (string, time.Duration) { return `{"type":"ping"}`, 15 * time.Second }

func (ywebrtc) echoes() bool { return true }

func (ywebrtc) read(m *message) what {
	switch string(m.kind) {
	case `"publish"`:
		return signal
	case `"pong"`:
		return ready
	default:
		return refusal
	}
}

func (ywebrtc) body(m *message) []byte { return m.data }

// addressed wants the count of subscribers to be right too, but for probes: they
// are there to wait for it.
func (ywebrtc) addressed(c, _ *client, m *message, x gear.Payload) bool {
	n, err := strconv.Atoi(string(m.clients))
	return err == nil && is(m.topic, c.topic) && (n == c.r.cfg.Room || x.Kind == probe && n < c.r.cfg.Room)
}

func (ywebrtc) appendBody(b []byte, from, to *client, p *gear.Payloads, x gear.Payload) []byte {
	b = append(b, `{"to":"`...)
	b = append(b, to.id...)
	b = append(b, `","from":"`...)
	b = append(b, from.id...)
	b = append(b, `","type":"signal","token":1,"signal":`...)
	return append(p.Append(b, x), '}')
}

func (d ywebrtc) appendSignal(b []byte, from, to *client, p *gear.Payloads, x gear.Payload) []byte {
	b = append(b, `{"type":"publish","topic":"`...)
	b = append(b, from.topic...)
	b = append(b, `","data":`...)
	return append(d.appendBody(b, from, to, p, x), '}')
}
