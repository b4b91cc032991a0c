package signals

import (
	"fmt"
	"time"

	"github.com/peerservers/peerserver/testnet/bench/gear"
)

// peerjs is the protocol of the library of that name: ids that its clients
// choose, and a key, here the default one.
type peerjs struct{}

func (peerjs) path(c *client) string {
	return fmt.Sprintf("/peerjs?key=peerjs&id=%s&token=%011x&version=1.5.5", c.id, gear.Mix(c.r.cfg.seed+uint64(c.index))>>20)
}

func (peerjs) join(*client) {} // by its URL

func (peerjs) alive() (string, time.Duration) { return `{"type":"HEARTBEAT"}`, 5 * time.Second }

func (peerjs) echoes() bool { return false }

func (peerjs) read(m *message) what {
	switch string(m.kind) {
	case `"OPEN"`:
		return ready
	case `"OFFER"`, `"ANSWER"`, `"CANDIDATE"`:
		return signal
	default: // ERROR, ID-TAKEN, EXPIRE, LEAVE
		return refusal
	}
}

func (peerjs) body(m *message) []byte { return m.payload }

func (peerjs) addressed(c, from *client, m *message, x gear.Payload) bool {
	return is(m.src, from.id) && is(m.dst, c.id) && is(m.kind, peerjsType(x.Kind))
}

// is says whether JSON is that string, which needs no escapes.
func is(json []byte, s string) bool {
	return len(json) == len(s)+2 && json[0] == '"' && string(json[1:len(json)-1]) == s
}

func peerjsType(k gear.Kind) string {
	switch k {
	case gear.Answer:
		return "ANSWER"
	case gear.Candidate:
		return "CANDIDATE"
	default:
		return "OFFER"
	}
}

func (peerjs) appendBody(b []byte, _, _ *client, p *gear.Payloads, x gear.Payload) []byte {
	name := `{"sdp":`
	if x.Kind == gear.Candidate {
		name = `{"candidate":`
	}
	b = p.Append(append(b, name...), x)
	return append(b, `,"type":"data","connectionId":"dc_bench"}`...)
}

func (d peerjs) appendSignal(b []byte, from, to *client, p *gear.Payloads, x gear.Payload) []byte {
	b = append(b, `{"type":"`...)
	b = append(b, peerjsType(x.Kind)...)
	b = append(b, `","payload":`...)
	b = d.appendBody(b, from, to, p, x)
	b = append(b, `,"dst":"`...)
	b = append(b, to.id...)
	return append(b, `"}`...)
}
