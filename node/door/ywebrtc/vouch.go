package ywebrtc

import "net/url"

// Vouch implements door.Voucher: an id is the peerId of a room that announces
// itself in the clear, its token the room's name.
func (d *Door) Vouch(query url.Values) string {
	id := query.Get("id")
	for _, topic := range query["token"] {
		if id != "" && d.hub.Has(topic, string(named)+id) {
			return topic + "\x00" + id
		}
	}
	return ""
}
