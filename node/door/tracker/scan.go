package tracker

import (
	"github.com/peerservers/peerserver/node/door/scan"
	"github.com/peerservers/peerserver/protocol"
)

// fields are the raw JSON values of a message, as they stand in it: slices of
// its bytes, nil where the key is absent.
type fields struct {
	action, infoHash, peerID, toPeerID, offerID, left, event, answer []byte

	list   bool // offers is a list
	bad    bool // with an element that is not an object
	offers []rawOffer
}

type rawOffer struct{ id, offer []byte }

func (f *fields) reset() {
	clear(f.offers)
	*f = fields{offers: f.offers[:0]}
}

// add keeps an offer; those above the protocol's limit are forgotten.
func (f *fields) add(o rawOffer) {
	if len(f.offers) < protocol.MaxOffers {
		f.offers = append(f.offers, o)
	}
}

// slot is where the value of a top-level key goes, nil for keys that nobody
// reads.
func (f *fields) slot(key string) *[]byte {
	switch key {
	case "action":
		return &f.action
	case "info_hash":
		return &f.infoHash
	case "peer_id":
		return &f.peerID
	case "to_peer_id":
		return &f.toPeerID
	case "offer_id":
		return &f.offerID
	case "left":
		return &f.left
	case "event":
		return &f.event
	case "answer":
		return &f.answer
	}
	return nil
}

// quick splits a message in one pass, checking that it is JSON: what it hands
// on goes verbatim into the messages of others. It gives up, reporting false,
// on what is wrong and on what is unusual; then [parse] decides.
func quick(b []byte, f *fields) bool {
	f.reset()
	s := scan.Over(b)
	if !s.Open('{') {
		return false
	}
	if s.Close('}') {
		return s.End()
	}
	for {
		key, ok := s.Key()
		if !ok {
			return false
		}
		if string(key) == "offers" {
			ok = f.takeOffers(&s)
		} else {
			slot := f.slot(string(key))
			at := s.At()
			ok = (slot == nil || *slot == nil) && s.Value()
			if ok && slot != nil {
				*slot = s.From(at)
			}
		}
		if !ok {
			return false
		}
		switch s.After() {
		case ',':
		case '}':
			return s.End()
		default:
			return false
		}
	}
}

// takeOffers takes the list of offers. Twice the key, and elements that are not
// objects or name a key twice, are unusual.
func (f *fields) takeOffers(s *scan.Scanner) bool {
	if f.list || !s.Open('[') {
		return false
	}
	f.list = true
	if s.Close(']') {
		return true
	}
	for {
		if !f.takeOffer(s) {
			return false
		}
		switch s.After() {
		case ',':
		case ']':
			return true
		default:
			return false
		}
	}
}

func (f *fields) takeOffer(s *scan.Scanner) bool {
	if !s.Open('{') {
		return false
	}
	var o rawOffer
	if s.Close('}') {
		f.add(o)
		return true
	}
	for {
		key, ok := s.Key()
		if !ok {
			return false
		}
		at := s.At()
		if !s.Value() {
			return false
		}
		switch v := s.From(at); string(key) {
		case "offer_id":
			if o.id != nil {
				return false
			}
			o.id = v
		case "offer":
			if o.offer != nil {
				return false
			}
			o.offer = v
		}
		switch s.After() {
		case ',':
		case '}':
			f.add(o)
			return true
		default:
			return false
		}
	}
}
