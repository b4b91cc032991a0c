package doctor

import (
	"context"
	"strings"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// checkRecord looks at the record by which other nodes know this one.
func (s *subject) checkRecord(context.Context) []Finding {
	if s.record == nil {
		return one(bad(RecordNone, "The node has no record: no other node can dial it."))
	}
	now := s.now()
	r, err := s.record.Verify(s.about.Node, now)
	if err == nil {
		found := one(ok("The record is signed, %s old and good for %s more.", length(now.Sub(issued(r))), length(r.Expires().Sub(now))))
		return append(found, s.named(r)...)
	}
	// The signature matters whatever the clocks say.
	at := time.UnixMilli(s.record.Seq)
	if _, err := s.record.Verify(s.about.Node, at); err != nil {
		return one(bad(RecordInvalid, "The record cannot be believed: %v.", err))
	}
	if at.After(now) {
		return one(bad(RecordFuture, "The record is issued %s in the future: other nodes do not take it.", length(at.Sub(now))))
	}
	return one(bad(RecordExpired, "The record is signed, and %s old: it has expired.", length(now.Sub(at))))
}

func issued(r *protocol.Record) time.Time { return time.UnixMilli(r.Seq) }

// named says whether the URL in use is one of the record's.
func (s *subject) named(r *protocol.Record) []Finding {
	mine, err := protocol.ParseLinkURL(s.withPort())
	if err != nil && !s.near {
		return nil // plain http at a name: the check of TLS speaks of that
	}
	for _, u := range r.URLs {
		if other, err := protocol.ParseLinkURL(u); err == nil && other == mine {
			return nil
		}
	}
	if s.near { // addresses of the node's own machine or LAN need not be in it
		return nil
	}
	return one(bad(URLNotInRecord, "The record does not name this URL, but %s.", strings.Join(r.URLs, " and ")))
}

func (s *subject) withPort() string {
	scheme := "ws://"
	if s.base.Scheme == "https" {
		scheme = "wss://"
	}
	return scheme + s.address()
}
