package dhtstore

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"time"
)

// tokenEpoch is how long one token is given out. It is taken for as long
// again.
const tokenEpoch = 5 * time.Minute

// tokens proves that a node which writes has read before, from the same
// address: nobody can have us store something in another's name.
type tokens struct{ secret [32]byte }

func newTokens() *tokens {
	t := new(tokens)
	_, _ = rand.Read(t.secret[:]) // never fails
	return t
}

func (t *tokens) issue(a netip.Addr, now time.Time) []byte {
	return t.of(a, now.UnixNano()/int64(tokenEpoch))
}

func (t *tokens) valid(token []byte, a netip.Addr, now time.Time) bool {
	epoch := now.UnixNano() / int64(tokenEpoch)
	return hmac.Equal(token, t.of(a, epoch)) || hmac.Equal(token, t.of(a, epoch-1))
}

func (t *tokens) of(a netip.Addr, epoch int64) []byte {
	m := hmac.New(sha256.New, t.secret[:])
	m.Write(binary.BigEndian.AppendUint64(nil, uint64(epoch)))
	m.Write(a.AsSlice())
	return m.Sum(nil)[:8]
}
