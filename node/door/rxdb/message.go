package rxdb

import (
	"unicode/utf16"

	"github.com/peerservers/peerserver/node/door/scan"
	"github.com/peerservers/peerserver/protocol"
)

// What the server looks at in a message of a client; the rest passes through.
//
//	{"type":"join","room":"..."}
//	{"type":"signal","room":"...","senderPeerId":"...","receiverPeerId":"...","data":...,"connectionId":"..."}
//	{"type":"ping"}
type message struct {
	kind             string
	room             string
	sender, receiver string
}

// fieldNames are in the order of message.
var fieldNames = []string{"type", "room", "senderPeerId", "receiverPeerId"}

// parse reads a message. Names are matched exactly and the last of two is
// taken, as JavaScript does at the other end: what was checked here is what is
// read there.
func parse(b []byte) (m message, ok bool) {
	var v [4]scan.Value
	if !scan.Pick(b, fieldNames, v[:]) {
		return m, false
	}
	for i, into := range []*string{&m.kind, &m.room, &m.sender, &m.receiver} {
		*into, _ = v[i].Text() // empty, and so of no use, when it is no string
	}
	return m, true
}

// isSignal says whether bytes that another node sent are a signal between two,
// as this node would have passed it on.
func isSignal(b []byte, from, to string) bool {
	m, ok := parse(b)
	return ok && m.kind == "signal" && m.sender == from && m.receiver == to
}

// isRoom says whether a name is of 6 to 99 characters, as JavaScript counts
// them.
func isRoom(name string) bool {
	if len(name) > 3*99 {
		return false
	}
	n := len(utf16.Encode([]rune(name)))
	return n > 5 && n < 100
}

// isPeerID says whether an id that another node shows can be shown to a client.
func isPeerID(id string) bool {
	for _, c := range []byte(id) {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return len(id) > 5 && len(id) <= protocol.MaxMemberID
}

// appendInit tells a client who it is.
func appendInit(b []byte, id string) []byte {
	return append(append(append(b, `{"type":"init","yourPeerId":"`...), id...), `"}`...)
}

// appendJoined shows a client who is in its room, itself as well.
func appendJoined(b []byte, ids []string) []byte {
	b = append(b, `{"type":"joined","otherPeerIds":[`...)
	for i, id := range ids {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), id...), '"')
	}
	return append(b, "]}"...)
}
