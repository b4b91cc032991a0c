package peerjs

import "net/url"

// Vouch implements door.Voucher: id, token and key are what the client has in its
// options; without a key it is the usual one.
func (d *Door) Vouch(query url.Values) string {
	p := parameters{key: query.Get("key"), id: query.Get("id")}
	if p.key == "" {
		p.key = usualKey
	}
	for _, p.token = range query["token"] {
		if p.complete() && p.validKey() && validID(p.id) && d.cfg.Relay.HasClaim(app(p.key), p.id, p.proof()) {
			return p.key + "\x00" + p.id
		}
	}
	return ""
}
