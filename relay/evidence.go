package relay

import (
	"math"
	"math/bits"
)

// distinct estimates how many different keys it has seen, within some 7 %, in
// 256 bytes: a HyperLogLog. It is what a node's claimed count is compared to.
type distinct struct {
	registers [256]uint8
}

func (d *distinct) see(hash uint64) {
	r := &d.registers[hash>>56]
	*r = max(*r, uint8(bits.LeadingZeros64(hash<<8|0x80)+1))
}

func estimate(a, b *distinct) int {
	sum, zeros := 0.0, 0
	for i := range 256 {
		var v uint8
		if a != nil {
			v = a.registers[i]
		}
		if b != nil {
			v = max(v, b.registers[i])
		}
		sum += math.Ldexp(1, -int(v))
		if v == 0 {
			zeros++
		}
	}
	e := 0.7182725932495458 * 256 * 256 / sum
	if e < 640 && zeros > 0 {
		e = 256 * math.Log(256/float64(zeros)) // linear counting
	}
	return int(e)
}

// evidence is what we know of one node in one app besides what it says.
type evidence struct {
	young, old *distinct // member ids heard, by interval; nil until the claim needs them
	turned     instant
}

func (e *evidence) hear(hash uint64, now, interval instant) {
	if now-e.turned >= interval {
		e.old, e.young, e.turned = e.young, nil, now
	}
	if e.young == nil {
		e.young = new(distinct)
	}
	e.young.see(hash)
}

func (e *evidence) heard() int {
	if e.young == nil && e.old == nil {
		return 0
	}
	return estimate(e.young, e.old)
}

// share is a number of offers and how many of them were answered. It forgets
// slowly, so that it follows what changes.
type share struct{ placed, answered int }

func (s *share) place(n int) {
	s.placed += n
	if s.placed > 4000 {
		s.placed, s.answered = s.placed/2, s.answered/2
	}
}

func (s *share) answer() { s.answered = min(s.answered+1, s.placed) }

func (s *share) ratio() float64 {
	if s.placed == 0 {
		return 1
	}
	return float64(s.answered) / float64(s.placed)
}
