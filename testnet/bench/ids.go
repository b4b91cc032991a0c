package bench

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/bits"
	"math/rand/v2"
)

// id is a binary field of the protocol.
type id [20]byte

// names makes the ids and payloads of one run. Two runs with different seeds
// do not meet.
type names struct {
	seed uint64
	size int
	text []byte // what the bodies of payloads are cut from
}

const (
	line = 64 // of a body, its escaped end included: as long as one of an SDP
	head = 60 // of a payload: who made it, and which it is

	// odd and inverse make an offer's id look random, and undo it.
	odd     = 0x9e3779b97f4a7c15
	inverse = 0xf1de83e19937733d
)

func newNames(seed uint64, size int) *names {
	n := &names{seed: seed, size: max(size, head+line)}
	r := rand.New(rand.NewPCG(seed, 1))
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/"
	n.text = make([]byte, 1<<16+n.size)
	for i := range n.text {
		n.text[i] = letters[r.IntN(len(letters))]
	}
	for i := line; i <= len(n.text); i += line {
		copy(n.text[i-4:], `\r\n`)
	}
	return n
}

// mix is the finalizer of splitmix64: every bit of the result depends on every
// bit of v.
func mix(v uint64) uint64 {
	v ^= v >> 30
	v *= 0xbf58476d1ce4e5b9
	v ^= v >> 27
	v *= 0x94d049bb133111eb
	return v ^ v>>31
}

// offerID is 20 bytes as random as those of real clients, from which it can be
// told who made them.
func (n *names) offerID(from int, seq uint32) (o id) {
	v := (uint64(from)<<32|uint64(seq))*odd ^ n.seed
	binary.LittleEndian.PutUint64(o[:], v)
	binary.LittleEndian.PutUint64(o[8:], mix(v))
	binary.LittleEndian.PutUint32(o[16:], uint32(mix(v+1)))
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
	copy(p[:], fmt.Sprintf("-PB0100-%04x%08d", uint16(mix(n.seed)), client))
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

// payload is what passes between two members.
type payload struct {
	kind byte   // 'o' of an offer, 'a' of an answer
	by   int    // who made it
	from int    // whose offer it is
	seq  uint32 // of the offer
}

// append appends a payload as JSON. Its first line names it; the rest is the
// piece of the run's text that its name chooses, so that every byte can be
// checked.
func (n *names) append(b []byte, p payload) []byte {
	kind := `{"type":"offer","sdp":"`
	if p.kind == 'a' {
		kind = `{"type":"answer","sdp":"`
	}
	b = append(b, kind...)
	at := len(b)
	b = append(b, "v=0\\r\\no="...)
	b = append(b, p.kind)
	for _, v := range [...]uint64{uint64(p.by), uint64(p.from), uint64(p.seq)} {
		b = appendHex(append(b, ' '), v)
	}
	for len(b) < at+head-4 {
		b = append(b, '.')
	}
	b = append(b, `\r\n`...)
	whole := (n.size - head) / line * line
	name := mix(uint64(p.by)<<40 ^ uint64(p.from)<<20 ^ uint64(p.seq) ^ bits.RotateLeft64(uint64(p.kind), 56) ^ n.seed)
	cut := int(name%(1<<16/line)) * line
	b = append(b, n.text[cut:cut+whole]...)
	return append(b, `"}`...)
}

func appendHex(b []byte, v uint64) []byte {
	const digits = "0123456789abcdef"
	for i := 28; i >= 0; i -= 4 {
		b = append(b, digits[v>>i&15])
	}
	return b
}

// is says whether got is that payload; room is for making it.
func (n *names) is(got []byte, p payload, room *[]byte) bool {
	*room = n.append((*room)[:0], p)
	return bytes.Equal(got, *room)
}
