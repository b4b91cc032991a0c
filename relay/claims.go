package relay

import "github.com/peerservers/peerserver/protocol"

// Claim makes a client a member under an id that it has alone, if it can be.
// The sink is told with KindHeld or KindTaken, at the latest after
// protocol.ClaimWait; until then the client is no member, and Leave withdraws
// the claim. A claim that stood may still be lost: to an older one of a node
// that was not linked then, or to the same client on another node.
func (r *Relay) Claim(app protocol.AppID, c Claiming) (*Member, error) {
	m, err := r.Join(app, c.Joining)
	if err == nil {
		c.Sink.Deliver(&Event{Kind: KindHeld})
	}
	return m, err
}
