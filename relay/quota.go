package relay

// bucket is a quota that refills: rate a second, at most burst saved up.
type bucket struct {
	left float64
	at   instant
}

// take uses n of the quota, or reports false and how long until there would be
// enough.
func (b *bucket) take(n, rate, burst float64, now instant) (ok bool, wait instant) {
	if b.at == 0 {
		b.left = burst
	} else {
		b.left = min(burst, b.left+float64(now-b.at)/1e9*rate)
	}
	b.at = max(now, 1)
	if b.left < n {
		return false, instant((n - b.left) / rate * 1e9)
	}
	b.left -= n
	return true, 0
}
