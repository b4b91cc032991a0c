package bench

import (
	"bytes"
	"encoding/json"
	"strconv"
	"unicode/utf8"

	"github.com/peerservers/peerserver/testnet/bench/gear"
)

// message is what a tracker sends, as far as a client needs it: the JSON of its
// fields, which point into the message.
type message struct {
	action, failure, infoHash, peerID, offerID []byte
	offer, answer                              []byte
	interval, complete, incomplete             []byte
}

// scan takes a message apart.
func (m *message) scan(b []byte) bool {
	*m = message{}
	return gear.Scan(b, m)
}

// Set implements gear.Fields.
func (m *message) Set(key, v []byte) {
	switch string(key) {
	case "action":
		m.action = v
	case "failure reason":
		m.failure = v
	case "info_hash":
		m.infoHash = v
	case "peer_id":
		m.peerID = v
	case "offer_id":
		m.offerID = v
	case "offer":
		m.offer = v
	case "answer":
		m.answer = v
	case "interval":
		m.interval = v
	case "complete":
		m.complete = v
	case "incomplete":
		m.incomplete = v
	}
}

// read takes the id that a JSON string stands for: 20 characters up to U+00FF,
// a byte each.
func (o *id) read(v []byte) bool {
	if len(v) < 2 || v[0] != '"' {
		return false
	}
	if bytes.IndexByte(v, '\\') >= 0 {
		return o.readEscaped(v)
	}
	n := 0
	for i := 1; i < len(v)-1; n++ {
		if n == len(o) {
			return false
		}
		switch c := v[i]; {
		case c < utf8.RuneSelf:
			o[n] = c
			i++
		case c == 0xc2 || c == 0xc3:
			o[n] = c<<6 | v[i+1]&0x3f
			i += 2
		default:
			return false
		}
	}
	return n == len(o)
}

func (o *id) readEscaped(v []byte) bool {
	var s string
	if json.Unmarshal(v, &s) != nil {
		return false
	}
	n := 0
	for _, c := range s {
		if n == len(o) || c > 0xff {
			return false
		}
		o[n] = byte(c)
		n++
	}
	return n == len(o)
}

// appendID writes an id as JSON.stringify does.
func appendID(b []byte, o *id) []byte {
	b = append(b, '"')
	for _, c := range o {
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < 0x20:
			b = appendControl(b, c)
		default:
			b = utf8.AppendRune(b, rune(c))
		}
	}
	return append(b, '"')
}

func appendControl(b []byte, c byte) []byte {
	if i := bytes.IndexByte([]byte("\b\t\n\f\r"), c); i >= 0 {
		return append(b, '\\', "btnfr"[i])
	}
	return append(b, '\\', 'u', '0', '0', '0'+c>>4, "0123456789abcdef"[c&15])
}

// appendAnnounce writes an announce up to its offers.
func appendAnnounce(b, hash, peer []byte, event string, offers int) []byte {
	b = append(b, `{"numwant":`...)
	b = strconv.AppendInt(b, int64(offers), 10)
	b = append(b, `,"uploaded":0,"downloaded":0,"left":1`...)
	if event != "" {
		b = append(b, `,"event":"`...)
		b = append(b, event...)
		b = append(b, '"')
	}
	b = append(b, `,"action":"announce","info_hash":`...)
	b = append(b, hash...)
	b = append(b, `,"peer_id":`...)
	b = append(b, peer...)
	return append(b, `,"offers":[`...)
}
