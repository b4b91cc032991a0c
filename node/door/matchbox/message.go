package matchbox

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"strings"
	"unicode/utf8"

	"github.com/peerservers/peerserver/node/door/scan"
)

// A request of a client: "KeepAlive", or
//
//	{"Signal":{"receiver":"uuid","data":...}}
type request struct {
	isSignal bool
	receiver string
	data     []byte // JSON, part of the message
}

// parse reads a request.
func parse(b []byte) (r request, ok bool) {
	if !utf8.Valid(b) {
		return r, false
	}
	if b = bytes.TrimSpace(b); len(b) > 0 && b[0] == '"' {
		var unit string
		return r, json.Unmarshal(b, &unit) == nil && unit == "KeepAlive"
	}
	var variant, signal map[string]json.RawMessage
	if json.Unmarshal(b, &variant) != nil || len(variant) != 1 {
		return r, false
	}
	if unit, is := variant["KeepAlive"]; is {
		return r, string(unit) == "null"
	}
	if json.Unmarshal(variant["Signal"], &signal) != nil {
		return r, false
	}
	var receiver string
	if raw := signal["receiver"]; len(raw) == 0 || json.Unmarshal(raw, &receiver) != nil {
		return r, false
	}
	r.isSignal, r.data = true, signal["data"]
	r.receiver, ok = parseUUID(receiver)
	return r, ok && len(r.data) > 0
}

// isData says whether bytes that another node sent can stand in an event.
func isData(b []byte) bool { return scan.Valid(b) }

// newUUID makes a random UUID, version 4.
func newUUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return formatUUID(b)
}

func formatUUID(b [16]byte) string {
	text := make([]byte, 0, 36)
	for i, group := range [...][]byte{b[:4], b[4:6], b[6:8], b[8:10], b[10:]} {
		if i > 0 {
			text = append(text, '-')
		}
		text = hex.AppendEncode(text, group)
	}
	return string(text)
}

// parseUUID reads a UUID in any form that Rust's crate uuid reads, and returns
// the usual one.
func parseUUID(text string) (string, bool) {
	text = strings.TrimPrefix(text, "urn:uuid:")
	if len(text) == 38 && text[0] == '{' && text[37] == '}' {
		text = text[1:37]
	}
	if len(text) == 36 && text[8] == '-' && text[13] == '-' && text[18] == '-' && text[23] == '-' {
		text = text[:8] + text[9:13] + text[14:18] + text[19:23] + text[24:]
	}
	var b [16]byte
	if len(text) != 32 {
		return "", false
	}
	if _, err := hex.Decode(b[:], []byte(text)); err != nil {
		return "", false
	}
	return formatUUID(b), true
}

// isPeerID says whether an id that another node shows can be shown to a client.
func isPeerID(id string) bool {
	usual, ok := parseUUID(id)
	return ok && usual == id
}

// appendPeer makes one of the events IdAssigned, NewPeer and PeerLeft.
func appendPeer(b []byte, event, id string) []byte {
	b = append(append(append(b, `{"`...), event...), `":"`...)
	return append(append(b, id...), `"}`...)
}

// appendSignal makes the event Signal.
func appendSignal(b []byte, sender string, data []byte) []byte {
	b = append(append(append(b, `{"Signal":{"sender":"`...), sender...), `","data":`...)
	return append(append(b, data...), "}}"...)
}
