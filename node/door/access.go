package door

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"slices"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// What those are told who may not come, as the reason of a close too, which has
// at most 123 bytes.
const (
	deniedToken  = "this node is private: ask its operator for a token, and put /t/TOKEN before the path or ?token=TOKEN behind it"
	deniedOrigin = "this node is not for pages of this origin; its operator can allow it with --origin"
)

// Denier is a Door whose clients understand a word before they are closed.
type Denier interface {
	// Deny tells a client that it may not come, and why. The connection is closed
	// after it; no session was made.
	Deny(c *Conn, reason string)
}

// tokenKey is where a request keeps the token that its path began with.
type tokenKey struct{}

// WithToken is a request that has proved itself with a token besides those of
// its query.
func WithToken(q *http.Request, token string) *http.Request {
	return q.WithContext(context.WithValue(q.Context(), tokenKey{}, token))
}

// Denied says why a request may not have what the node's doors give, "" if it
// may: a node may ask for a token, and for pages of certain origins. also are
// tokens that the request carries where only its door looks.
func (h *Host) Denied(q *http.Request, also ...string) (reason string) {
	// Programs send no Origin.
	if origin := q.Header.Get("Origin"); origin != "" && len(h.cfg.Origins) > 0 && !slices.Contains(h.cfg.Origins, origin) {
		return deniedOrigin
	}
	if len(h.tokens) == 0 {
		return ""
	}
	if token, ok := q.Context().Value(tokenKey{}).(string); ok {
		also = append(also, token)
	}
	if slices.ContainsFunc(append(also, q.URL.Query()["token"]...), h.isToken) {
		return ""
	}
	return deniedToken
}

// isToken takes the same time for all tokens of a length.
func (h *Host) isToken(token string) bool {
	sum, found := sha256.Sum256([]byte(token)), 0
	for i := range h.tokens {
		found |= subtle.ConstantTimeCompare(sum[:], h.tokens[i][:])
	}
	return found == 1
}

// turnAway makes the session of a client that may not come. A browser sees no
// status of an upgrade that is refused, so it is closed with a reason instead.
func (c *Conn) turnAway(s Socket, reason string) Session {
	c.host.totals.denied.Add(1)
	if s.Deny != nil {
		s.Deny(c, reason)
	}
	c.CloseLater(protocol.CloseDenied, reason)
	return Deaf{}
}

// Deaf is the session of a client that is closed already, or soon.
type Deaf struct{}

// Message implements Session.
func (Deaf) Message([]byte) {}

// Refuse implements Session.
func (Deaf) Refuse(protocol.Code) {}

// Sweep implements Session.
func (Deaf) Sweep(time.Time) {}

// Closed implements Session.
func (Deaf) Closed() {}
