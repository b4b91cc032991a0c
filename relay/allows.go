package relay

import "github.com/peerservers/peerserver/protocol"

// Allows says whether members here may take part in an app. Join, Claim and
// Publish ask it themselves; it is for a door that brings some together without
// them.
func (r *Relay) Allows(app protocol.AppID) bool { return r.cfg.Allows == nil || r.cfg.Allows(app) }
