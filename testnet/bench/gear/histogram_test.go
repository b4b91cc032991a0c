package gear

import (
	"testing"
	"time"
)

func TestHistogram(t *testing.T) {
	var h Histogram
	for i := range int64(100_000) {
		h.Add(i * int64(time.Microsecond))
	}
	l := h.Latency()
	for _, c := range []struct{ got, want float64 }{{l.P50, 50}, {l.P90, 90}, {l.P99, 99}, {l.P999, 99.9}, {l.Max, 99.999}} {
		if c.got < 0.992*c.want || c.got > 1.008*c.want {
			t.Errorf("%+v: got %v, want %v", l, c.got, c.want)
		}
	}
	if l.Count != 100_000 {
		t.Errorf("count %d", l.Count)
	}
	for ns := int64(1); ns < 1<<40; ns += ns/3 + 1 {
		i := bucketOf(ns)
		if i < 0 || i >= buckets {
			t.Fatalf("%d is in bucket %d of %d", ns, i, buckets)
		}
		if v := valueOf(i); ns < 1<<maxBits && (v > ns+ns/100+1 || v < ns-ns/100-1) {
			t.Fatalf("%d is in bucket %d, of %d", ns, i, v)
		}
	}
}
