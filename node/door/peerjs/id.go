package peerjs

import (
	"crypto/rand"
	"strings"

	"github.com/peerservers/peerserver/protocol"
)

// An issued id is the tag of the node that made it up, a dash and randomLen
// characters that nobody guesses.
const (
	tagLen    = 16
	randomLen = 26 // 130 bits
)

// issueID makes up an id. It says where its client is, so that no node has to
// be asked.
func issueID(tag protocol.NodeTag) string { return tag.String() + "-" + strings.ToLower(rand.Text()) }

// tagOf is the tag in an id, zero when there is none.
func tagOf(id string) (tag protocol.NodeTag) {
	if len(id) == tagLen+1+randomLen && id[tagLen] == '-' {
		tag, _ = protocol.ParseNodeTag(id[:tagLen])
	}
	return tag
}

// validID says whether an id is one that the client library would take,
// ^[A-Za-z0-9]+(?:[ _-][A-Za-z0-9]+)*$, and that a member may have. It needs no
// escapes in JSON.
func validID(id string) bool {
	separated := true // the last was none of those that may come before a separator
	for _, c := range []byte(id) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
			separated = false
		case (c == ' ' || c == '_' || c == '-') && !separated:
			separated = true
		default:
			return false
		}
	}
	return !separated && len(id) <= protocol.MaxMemberID
}
