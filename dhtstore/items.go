package dhtstore

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha1" //nolint:gosec // BEP 44 names items by it
	"net/netip"
	"strconv"
	"time"
)

// The item store.
const (
	maxItems = 1000
	itemTTL  = 2 * time.Hour // BEP 44
	maxValue = 1000          // bencoded, BEP 44
	maxSalt  = 64            // BEP 44
)

// storedItem is a BEP 44 item: immutable without a key.
type storedItem struct {
	mutable bool
	item
}

// itemStore keeps what others put. Owned by the responder.
type itemStore struct{ items *lru[[20]byte, storedItem] }

func newItemStore() *itemStore {
	return &itemStore{newLRU[[20]byte, storedItem](maxItems, itemTTL)}
}

func (s *itemStore) get(target [20]byte, now time.Time) *storedItem { return s.items.get(target, now) }

// put stores an item, or says with BEP 44's error why not. cas, if not nil, is
// the sequence that the item has to have here. The checks come in the order
// that costs least first.
func (s *itemStore) put(i storedItem, cas *int64, owner netip.Addr, now time.Time) *refusal {
	switch {
	case len(i.V) > maxValue:
		return &refusal{Code: errTooBig, Msg: "message (v field) too big"}
	case len(i.Salt) > maxSalt:
		return &refusal{Code: errSalt, Msg: "salt too big"}
	case !canonical(i.V) || i.Seq < 0:
		return &refusal{Code: errProtocol, Msg: "v is not canonical, or seq negative"}
	case i.mutable && !ed25519.Verify(i.Key[:], i.signedBytes(), i.Sig[:]):
		return &refusal{Code: errSignature, Msg: "invalid signature"}
	}
	target := i.target()
	if old := s.items.get(target, now); old != nil {
		same := bytes.Equal(old.V, i.V)
		switch {
		case i.mutable && cas != nil && *cas != old.Seq:
			return &refusal{Code: errCAS, Msg: "CAS mismatch, re-read and try again"}
		case i.mutable && (i.Seq < old.Seq || i.Seq == old.Seq && !same):
			return &refusal{Code: errSeq, Msg: "sequence number less than current"}
		case same && i.Seq == old.Seq:
			s.items.extend(target, now)
			return nil
		}
	}
	s.items.put(target, i, owner, now)
	return nil
}

// target is where an item belongs.
func (i *storedItem) target() [20]byte {
	if !i.mutable {
		return sha1.Sum(i.V) //nolint:gosec // as above
	}
	return i.item.target()
}

// target is where a mutable item belongs.
func (i *item) target() [20]byte {
	return sha1.Sum(append(i.Key[:], i.Salt...)) //nolint:gosec // as above
}

// signedBytes is what BEP 44 signs: salt, seq and v as they stand in a
// bencoded dictionary, without its "d" and "e".
func (i *item) signedBytes() (b []byte) {
	if len(i.Salt) > 0 {
		b = appendEntry(b, "salt", i.Salt)
	}
	b = append(b, "3:seqi"...)
	b = strconv.AppendInt(b, i.Seq, 10)
	b = append(b, "e1:v"...)
	return append(b, i.V...)
}
