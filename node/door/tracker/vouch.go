package tracker

import (
	"encoding/hex"
	"net/url"
)

// Vouch implements door.Voucher: an id is a peer_id, its token the info_hash,
// both as 40 hex digits or as 20 characters.
func (d *Door) Vouch(query url.Values) string {
	peer, ok := parseID(query.Get("id"))
	if !ok {
		return ""
	}
	for _, token := range query["token"] {
		if hash, ok := parseID(token); ok && d.relay.Has(app(&hash), string(peer[:])) {
			return string(hash[:]) + string(peer[:])
		}
	}
	return ""
}

func parseID(s string) (i id, ok bool) {
	if raw, err := hex.DecodeString(s); err == nil && len(raw) == len(i) {
		return id(raw), true
	}
	return i, copy(i[:], s) == len(s) && len(s) == len(i)
}
