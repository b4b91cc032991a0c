package tracker

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/relay"
)

// event is what an announce says about its peer.
type event uint8

const (
	update event = iota // also started, paused, and none
	stopped
	completed
)

// readAnnounce reads all of an announce but its info_hash.
func (sc *scratch) readAnnounce() error {
	f := &sc.f
	if !sc.key.peer.read(f.peerID) {
		return errPeer
	}
	sc.answer = !falsy(f.answer)
	if sc.answer && !sc.to.read(f.toPeerID) {
		return errTo
	}
	if err := sc.readEvent(); err != nil {
		return err
	}
	sc.ids, sc.ref = sc.ids[:0], sc.ref[:0]
	if sc.answer {
		var ok bool
		if sc.ref, ok = appendBytes(sc.ref, f.offerID); !ok || !validRef(sc.ref) {
			return errRef
		}
		if len(f.answer) > protocol.MaxPayload {
			return errLarge
		}
	}
	return sc.readOffers()
}

func validRef(ref []byte) bool { return len(ref) > 0 && len(ref) <= protocol.MaxRef }

func (sc *scratch) readEvent() error {
	sc.event = update
	if falsy(sc.f.event) {
		return nil
	}
	name, ok := text(sc.f.event)
	switch {
	case !ok:
		return errEvent
	case name == "stopped":
		sc.event = stopped
	case name == "completed":
		sc.event = completed
	case name != "started" && name != "update" && name != "paused" && name != "empty":
		return errEvent
	}
	return nil
}

func (sc *scratch) readOffers() error {
	sc.offers = sc.offers[:0]
	if sc.f.bad {
		return errOffers
	}
	for _, o := range sc.f.offers {
		at := len(sc.ids)
		var ok bool
		if sc.ids, ok = appendBytes(sc.ids, o.id); !ok || !validRef(sc.ids[at:]) {
			return errRef
		}
		switch {
		case len(o.offer) == 0:
			return errOffers
		case len(o.offer) > protocol.MaxPayload:
			return errLarge
		}
		// Room that append left behind keeps its bytes.
		sc.offers = append(sc.offers, relay.Offer{ID: sc.ids[at:len(sc.ids):len(sc.ids)], Payload: o.offer})
	}
	return nil
}

// readScrape reads the infohashes of a scrape: one, several, or none.
func (sc *scratch) readScrape() error {
	sc.hashes = sc.hashes[:0]
	v := sc.f.infoHash
	if len(v) == 0 || string(v) == "null" {
		return nil
	}
	var list []json.RawMessage
	if v[0] != '[' {
		list = append(list, v)
	} else if err := json.Unmarshal(v, &list); err != nil {
		return errHash
	}
	if len(list) > maxScrape {
		return errScrape
	}
	for _, v := range list {
		var hash id
		if !hash.read(v) {
			return errHash
		}
		sc.hashes = append(sc.hashes, hash)
	}
	return nil
}

// errAction is the refusal of an action, as the reference server words it.
func errAction(v []byte) error {
	name, ok := text(v)
	if !ok {
		if name = string(v); name == "" {
			name = "undefined"
		}
	}
	if len(name) > 64 {
		name = name[:64]
	}
	return fmt.Errorf("invalid action in WS request: %s", strings.ToValidUTF8(name, ""))
}

func appendInt(b []byte, n int) []byte { return strconv.AppendInt(b, int64(n), 10) }

// appendText appends a sentence as a JSON string.
func appendText(b []byte, s string) []byte {
	v, err := json.Marshal(s)
	if err != nil {
		return append(b, `"internal"`...)
	}
	return append(b, v...)
}
