package gear

import (
	"bytes"
	"math/bits"
	"math/rand/v2"
)

// Payloads makes the payloads of one run. Those of two runs with different seeds
// differ.
type Payloads struct {
	seed uint64
	size int
	text []byte // what the bodies of payloads are cut from
}

const (
	line = 64 // of a body, its escaped end included: as long as one of an SDP
	head = 60 // of a payload: who made it, and which it is
)

// NewPayloads makes them of about size bytes each.
func NewPayloads(seed uint64, size int) *Payloads {
	p := &Payloads{seed: seed, size: max(size, head+line)}
	r := rand.New(rand.NewPCG(seed, 1))
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/"
	p.text = make([]byte, 1<<16+p.size)
	for i := range p.text {
		p.text[i] = letters[r.IntN(len(letters))]
	}
	for i := line; i <= len(p.text); i += line {
		copy(p.text[i-4:], `\r\n`)
	}
	return p
}

// Mix is the finalizer of splitmix64: every bit of the result depends on every
// bit of v.
func Mix(v uint64) uint64 {
	v ^= v >> 30
	v *= 0xbf58476d1ce4e5b9
	v ^= v >> 27
	v *= 0x94d049bb133111eb
	return v ^ v>>31
}

// Kind is what a payload is.
type Kind byte

// Kinds of payloads.
const (
	Offer     Kind = 'o'
	Answer    Kind = 'a'
	Candidate Kind = 'c'
)

// Payload is what passes between two members.
type Payload struct {
	Kind Kind
	By   int    // who made it
	Of   int    // for whom, or whose offer it is about
	Seq  uint32 // of the signal, or of the offer
}

// opening is how a payload's JSON begins.
func (k Kind) opening() string {
	switch k {
	case Answer:
		return `{"type":"answer","sdp":"`
	case Candidate:
		return `{"sdpMid":"0","candidate":"`
	default:
		return `{"type":"offer","sdp":"`
	}
}

// origin comes before the numbers that name a payload.
const origin = `v=0\r\no=`

// Append appends a payload as JSON. Its first line names it; the rest is the
// piece of the run's text that its name chooses, so that every byte can be
// checked.
func (p *Payloads) Append(b []byte, x Payload) []byte {
	b = append(b, x.Kind.opening()...)
	at := len(b)
	b = append(b, origin...)
	b = append(b, byte(x.Kind))
	for _, v := range [...]uint64{uint64(x.By), uint64(x.Of), uint64(x.Seq)} {
		b = appendHex(append(b, ' '), v)
	}
	for len(b) < at+head-4 {
		b = append(b, '.')
	}
	b = append(b, `\r\n`...)
	whole := (p.size - head) / line * line
	name := Mix(uint64(x.By)<<40 ^ uint64(x.Of)<<20 ^ uint64(x.Seq) ^ bits.RotateLeft64(uint64(x.Kind), 56) ^ p.seed)
	cut := int(name%(1<<16/line)) * line
	b = append(b, p.text[cut:cut+whole]...)
	return append(b, `"}`...)
}

func appendHex(b []byte, v uint64) []byte {
	const digits = "0123456789abcdef"
	for i := 28; i >= 0; i -= 4 {
		b = append(b, digits[v>>i&15])
	}
	return b
}

// Is says whether got is that payload; room is for making it.
func (p *Payloads) Is(got []byte, x Payload, room *[]byte) bool {
	*room = p.Append((*room)[:0], x)
	return bytes.Equal(got, *room)
}

// ParsePayload reads a payload's name out of JSON that has it near its
// beginning. Whether the rest is right, Is says.
func ParsePayload(b []byte) (x Payload, ok bool) {
	const size = 1 + 3*9
	_, b, ok = bytes.Cut(b, []byte(origin))
	if !ok || len(b) < size {
		return x, false
	}
	x.Kind = Kind(b[0])
	var v [3]uint32
	for i := range v {
		for _, c := range b[2+9*i : 10+9*i] {
			d := bytes.IndexByte([]byte("0123456789abcdef"), c)
			if d < 0 {
				return x, false
			}
			v[i] = v[i]<<4 | uint32(d)
		}
	}
	x.By, x.Of, x.Seq = int(v[0]), int(v[1]), v[2]
	return x, true
}
