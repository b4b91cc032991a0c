package relay

// bucket is a quota that refills: rate a second, at most burst saved up.
type bucket struct {
	left float64
	at   instant
}

func (b *bucket) refill(rate, burst float64, now instant) {
	if b.at == 0 {
		b.left = burst
	} else {
		b.left = min(burst, b.left+float64(now-b.at)/1e9*rate)
	}
	b.at = max(now, 1)
}

// take uses n of the quota, or reports false and how long until there would be
// enough.
func (b *bucket) take(n, rate, burst float64, now instant) (ok bool, wait instant) {
	b.refill(rate, burst, now)
	if b.left < n {
		return false, instant((n - b.left) / rate * 1e9)
	}
	b.left -= n
	return true, 0
}

// pay uses n of a quota that saves up one second of it, if need be more than is
// left, and says how long to wait until it is made good.
func (b *bucket) pay(n, rate float64, now instant) instant {
	b.refill(rate, rate, now)
	if b.left -= n; b.left < 0 {
		return instant(-b.left / rate * 1e9)
	}
	return 0
}
