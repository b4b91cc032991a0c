package relay

import "github.com/peerservers/peerserver/protocol"

// Finder finds other nodes that serve an app. None of its methods blocks.
type Finder interface {
	// Want announces that this node serves the app and looks for others, until
	// Drop. found may be called from any goroutine, more than once for a node.
	Want(app protocol.AppID, found func(*protocol.Record))
	Drop(app protocol.AppID)
	// Own is the node's own signed record, nil while it cannot be dialled.
	Own() *protocol.SignedRecord
	// Check verifies records that another node handed over, and asks each node
	// whether it is there.
	Check(records []*protocol.SignedRecord, found func(*protocol.Record))
}
