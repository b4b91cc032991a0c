package rxdb

import (
	"net/url"

	"github.com/peerservers/peerserver/protocol"
)

// Vouch implements door.Voucher: an id is what the node gave the client, its
// token the room.
func (d *Door) Vouch(query url.Values) string {
	id := query.Get("id")
	for _, room := range query["token"] {
		if isPeerID(id) && d.cfg.Relay.Has(protocol.App(Name, []byte(room), nil), id) {
			return id
		}
	}
	return ""
}
