package gear

import (
	"math/bits"
	"sync/atomic"
	"time"
)

const (
	subBits = 7
	maxBits = 38 // 4.5 minutes; longer ones count as that
	buckets = (maxBits - subBits + 1) << subBits
)

// A Histogram counts durations in buckets whose width is at most 1/128 of their
// value, like HdrHistogram's: an error under 1 %, in fixed room.
type Histogram struct {
	counts [buckets]atomic.Uint64
	max    atomic.Int64
}

func bucketOf(ns int64) int {
	v := uint64(min(max(ns, 0), 1<<maxBits-1))
	shift := max(bits.Len64(v)-subBits-1, 0)
	return shift<<subBits + int(v>>shift)
}

// valueOf is the middle of a bucket.
func valueOf(i int) int64 {
	shift := max(i>>subBits-1, 0)
	low := int64(i-shift<<subBits) << shift
	return low + (int64(1)<<shift)/2
}

// Add counts one of ns nanoseconds.
func (h *Histogram) Add(ns int64) {
	h.counts[bucketOf(ns)].Add(1)
	for m := h.max.Load(); ns > m && !h.max.CompareAndSwap(m, ns); m = h.max.Load() {
	}
}

// Latency is the distribution of a latency, in milliseconds.
type Latency struct {
	Count uint64  `json:"count"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p99_9"`
	Max   float64 `json:"max"`
}

func milliseconds(ns int64) float64 { return float64(ns) / float64(time.Millisecond) }

// Latency is what was counted so far.
func (h *Histogram) Latency() Latency {
	var l Latency
	for i := range h.counts {
		l.Count += h.counts[i].Load()
	}
	l.Max = milliseconds(h.max.Load())
	l.P50, l.P90, l.P99, l.P999 = h.quantile(l.Count, 0.5), h.quantile(l.Count, 0.9), h.quantile(l.Count, 0.99), h.quantile(l.Count, 0.999)
	return l
}

func (h *Histogram) quantile(count uint64, q float64) float64 {
	want, below := uint64(q*float64(count)), uint64(0)
	for i := range h.counts {
		if below += h.counts[i].Load(); below > want {
			return milliseconds(min(valueOf(i), h.max.Load()))
		}
	}
	return milliseconds(h.max.Load())
}
