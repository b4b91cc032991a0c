package bench

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/peerservers/peerserver/testnet/bench/gear"
)

// id is a binary field of the protocol.
type id [20]byte

// names makes the ids and payloads of one run. Two runs with different seeds
// do not meet.
type names struct {
	*gear.Payloads
	seed uint64
}

const (
	// odd and inverse make an offer's id look random, and undo it.
	odd     = 0x9e3779b97f4a7c15
	inverse = 0xf1de83e19937733d
)

func newNames(seed uint64, size int) *names { return &names{gear.NewPayloads(seed, size), seed} }

// offerID is 20 bytes as random as those of real clients, from which it can be
// told who made them.
func (n *names) offerID(from int, seq uint32) (o id) {
	v := (uint64(from)<<32|uint64(seq))*odd ^ n.seed
	binary.LittleEndian.PutUint64(o[:], v)
	binary.LittleEndian.PutUint64(o[8:], gear.Mix(v))
	binary.LittleEndian.PutUint32(o[16:], uint32(gear.Mix(v+1)))
	return o
}

// parseOffer undoes offerID.
func (n *names) parseOffer(o *id) (from int, seq uint32, ok bool) {
	v := (binary.LittleEndian.Uint64(o[:]) ^ n.seed) * inverse
	from, seq = int(v>>32), uint32(v)
	return from, seq, n.offerID(from, seq) == *o
}

// peerID is of the form that webtorrent's have.
func (n *names) peerID(client int) (p id) {
	copy(p[:], fmt.Sprintf("-PB0100-%04x%08d", uint16(gear.Mix(n.seed)), client))
	return p
}

// parsePeer undoes peerID.
func (n *names) parsePeer(p *id) (client int, ok bool) {
	for _, c := range p[12:] {
		if c < '0' || c > '9' {
			return 0, false
		}
		client = client*10 + int(c-'0')
	}
	return client, n.peerID(client) == *p
}

// infoHash is the swarm's.
func (n *names) infoHash(swarm int) id {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], n.seed)
	binary.BigEndian.PutUint64(b[8:], uint64(swarm))
	sum := sha256.Sum256(b[:])
	return id(sum[:20])
}
