package peer

import (
	"context"
	"slices"

	"github.com/peerservers/peerserver/protocol"
)

// Send sends to all sessions of one peer that are connected: a person's tabs and
// devices. [Peer.Send] sends to one. It returns when the slowest has taken it,
// and fails with protocol.CodeUnknownPeer when none is connected.
func (r *Room) Send(ctx context.Context, to protocol.PeerID, b []byte) error {
	isOther := func(p *Peer) bool { return p.ID() != to }
	peers := slices.DeleteFunc(r.Peers(), isOther)
	if len(peers) == 0 {
		return protocol.Errorf(protocol.CodeUnknownPeer, "peer: %s is not connected", to.Short())
	}
	return sendAll(peers, func(p *Peer) error { return p.Send(ctx, b) })
}
