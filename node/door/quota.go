package door

import (
	"net/netip"
	"sync"
	"time"
)

// Quota bounds what one client, and all clients of one address, may use of a
// node. A zero field takes its default; a negative one is no bound. Rates are
// per second; a burst is how much of them may come at once. IPv6 addresses
// count by their /64.
type Quota struct {
	Messages, MessageBurst int // per connection; 100 and 2,000
	Bytes, ByteBurst       int // per connection; 1 MiB and 16 MiB
	Members                int // per connection: apps times ids; 1,000

	AddressConns                         int // 500
	AddressMessages, AddressMessageBurst int // 2,000 and 20,000
	AddressBytes, AddressByteBurst       int // 16 MiB and 128 MiB
	AddressMembers                       int // 10,000
}

func (q Quota) withDefaults() Quota {
	for _, f := range []struct {
		v *int
		d int
	}{
		{&q.Messages, 100},
		{&q.MessageBurst, 2000},
		{&q.Bytes, 1 << 20},
		{&q.ByteBurst, 16 << 20},
		{&q.Members, 1000},
		{&q.AddressConns, 500},
		{&q.AddressMessages, 2000},
		{&q.AddressMessageBurst, 20_000},
		{&q.AddressBytes, 16 << 20},
		{&q.AddressByteBurst, 128 << 20},
		{&q.AddressMembers, 10_000},
	} {
		if *f.v == 0 {
			*f.v = f.d
		}
	}
	return q
}

// bucket is a token bucket in one word: the time at which it will be full
// again (the generic cell rate algorithm).
type bucket int64

// dataPeers is how many peers behind one address may relay data at full rate.
const dataPeers = 16

// take takes n of a bucket of the given rate and burst, and reports whether
// they were there.
func (b *bucket) take(now int64, n, rate, burst int) bool { return b.lacks(now, n, rate, burst) == 0 }

// lacks takes n of a bucket and returns 0, or takes nothing and returns how long
// it is until they are there.
func (b *bucket) lacks(now int64, n, rate, burst int) time.Duration {
	if rate <= 0 {
		return 0
	}
	full := max(int64(*b), now) + int64(n)*int64(time.Second)/int64(rate)
	if wait := full - now - int64(burst)*int64(time.Second)/int64(rate); wait > 0 {
		return time.Duration(wait)
	}
	*b = bucket(full)
	return 0
}

// charge takes n, or half a burst if that is less, and leaves as much; or it
// returns how long it is until they, and one more, are there.
func (b *bucket) charge(now int64, n, rate, burst int) time.Duration {
	wait := b.lacks(now, min(n, burst/2-1), rate, burst/2)
	if wait > 0 {
		wait += time.Second / time.Duration(rate)
	}
	return wait
}

// maxLeft bounds the addresses that are remembered when they have gone.
const maxLeft = 100_000

// addresses counts what each address uses. It holds an address while that has a
// connection or a member, and until its buckets are full again: who closes each
// connection before the next would have new ones else.
type addresses struct {
	quota Quota

	mu   sync.Mutex
	m    map[netip.Addr]*address
	left []*address // that have no connection and no member, oldest first
}

// address is one address that has connections. A nil address is not bounded.
type address struct {
	key netip.Addr

	// Guarded by addresses.mu.
	conns int
	left  bool // on the list

	mu                    sync.Mutex
	members               int
	messages, bytes, data bucket
}

// key is what an address is counted by.
func addressKey(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}

// open counts one more connection of a, and reports false when it has too
// many.
func (t *addresses) open(a netip.Addr) (*address, bool) {
	k := addressKey(a)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forgetLeft()
	e := t.m[k]
	if e == nil {
		e = &address{key: k}
		t.m[k] = e
	}
	if t.quota.AddressConns > 0 && e.conns >= t.quota.AddressConns {
		return nil, false
	}
	e.conns++
	return e, true
}

func (t *addresses) close(e *address) {
	if e == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e.conns--
	t.forget(e)
}

// tidy forgets an address that has no member any more, if it has no connection
// either.
func (t *addresses) tidy(e *address) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forget(e)
}

// forget is called with mu held.
func (t *addresses) forget(e *address) {
	if e.conns > 0 || e.left || t.m[e.key] != e {
		return
	}
	switch empty, full := e.state(time.Now()); {
	case !empty:
	case full || len(t.left) >= maxLeft:
		delete(t.m, e.key)
	default:
		e.left = true
		t.left = append(t.left, e)
	}
}

// forgetLeft is called with mu held, and now and then.
func (t *addresses) forgetLeft() {
	for len(t.left) > 0 {
		e := t.left[0]
		if empty, full := e.state(time.Now()); e.conns == 0 && empty && !full {
			return // nor are those after it, or not for long
		}
		t.left[0] = nil
		t.left = t.left[1:]
		e.left = false
		t.forget(e)
	}
}

// state says whether an address has no members, and full buckets.
func (e *address) state(now time.Time) (empty, full bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.members == 0, int64(max(e.messages, e.bytes, e.data)) <= now.UnixNano()
}

func (e *address) takeMessages(now int64, n int, q *Quota) bool {
	if e == nil {
		return true
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.messages.take(now, n, q.AddressMessages, q.AddressMessageBurst)
}

func (e *address) chargeMessages(now int64, n int, q *Quota) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.messages.charge(now, n, q.AddressMessages, q.AddressMessageBurst)
}

func (e *address) chargeData(now int64, n, rate, burst int) time.Duration {
	if e == nil {
		return 0
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.data.lacks(now, n, rate, burst)
}

func (e *address) isEmpty() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.members == 0
}

func (e *address) takeBytes(now int64, n int, q *Quota) bool {
	if e == nil {
		return true
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.bytes.take(now, n, q.AddressBytes, q.AddressByteBurst)
}

func (e *address) addMembers(n int, q *Quota) bool {
	if e == nil {
		return true
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if n > 0 && q.AddressMembers > 0 && e.members+n > q.AddressMembers {
		return false
	}
	e.members += n
	return true
}
