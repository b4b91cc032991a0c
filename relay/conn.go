package relay

import (
	"context"
	"net/netip"

	"github.com/peerservers/peerserver/protocol"
)

// Conn carries whole messages of at most protocol.MaxNoise bytes between two
// nodes. Read and Write are each called by one goroutine at a time. Close may
// be called more than once and ends both; code is a WebSocket close code.
type Conn interface {
	Read() ([]byte, error) // valid until the next Read
	Write(message []byte) error
	Close(code int)
}

// Dialer opens a Conn to another node's link URL, under the dial policy.
type Dialer interface {
	Dial(ctx context.Context, url protocol.LinkURL) (Conn, error)
	// DialAt is Dial of one address and no other, for a Probe. With an error of
	// CodeRefused nothing was dialled: url's host does not have that address.
	DialAt(ctx context.Context, url protocol.LinkURL, at netip.Addr) (Conn, error)
}
