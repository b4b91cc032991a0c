package peerjs

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"unicode/utf8"
)

// Lengths of what a client says when it connects, in bytes. An id has
// protocol.MaxMemberID.
const (
	maxKey   = 128
	maxToken = 512
)

// parameters are what a client says when it connects.
type parameters struct{ key, id, token string }

// parseQuery reads a query as browsers do: the client library puts in what it
// was given without escapes, and Go's parser drops a parameter with a semicolon
// or a stray percent sign. The last of two with the same name counts.
func parseQuery(query string) (p parameters) {
	for pair := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		switch unescape(name) {
		case "key":
			p.key = unescape(value)
		case "id":
			p.id = unescape(value)
		case "token":
			p.token = unescape(value)
		}
	}
	return p
}

// unescape is percent-decoding that leaves alone what is no escape.
func unescape(s string) string {
	if !strings.ContainsAny(s, "+%") {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '+':
			c = ' '
		case c == '%' && i+2 < len(s):
			if d, err := hex.DecodeString(s[i+1 : i+3]); err == nil {
				c, i = d[0], i+2
			}
		}
		b = append(b, c)
	}
	return string(b)
}

// complete says whether all is there that a client has to say.
func (p parameters) complete() bool { return p.key != "" && p.id != "" && p.token != "" }

// validKey says whether a key may name an app, and the token be one.
func (p parameters) validKey() bool {
	return len(p.key) <= maxKey && utf8.ValidString(p.key) && len(p.token) <= maxToken
}

// proof is what other nodes are told of the token. It is worth nothing with
// another key or id.
func (p parameters) proof() [32]byte {
	b := append([]byte("peerserver/peerjs/token"), byte(len(p.key)))
	b = append(append(b, p.key...), byte(len(p.id)))
	return sha256.Sum256(append(append(b, p.id...), p.token...))
}
