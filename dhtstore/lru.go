package dhtstore

import (
	"container/list"
	"net/netip"
	"time"
)

// lru is a map that forgets the least recently used entry when it is full, and
// any entry that has not been put again for a while. It has one owner: nothing
// is locked.
type lru[K comparable, V any] struct {
	max     int
	ttl     time.Duration // 0: for ever
	entries map[K]*list.Element
	order   list.List          // of *lruEntry[K, V], the most recently used in front
	shares  map[netip.Addr]int // entries of each owner that is not zero
}

type lruEntry[K comparable, V any] struct {
	key   K
	value V
	owner netip.Addr
	until time.Time
}

func newLRU[K comparable, V any](max int, ttl time.Duration) *lru[K, V] {
	return &lru[K, V]{max: max, ttl: ttl, entries: make(map[K]*list.Element), shares: make(map[netip.Addr]int)}
}

// maxShare is the part of a map that one owner can have: an eighth.
const maxShare = 8

// get returns nil for what is not there. Using an entry does not make it live
// longer.
func (l *lru[K, V]) get(key K, now time.Time) *V {
	e := l.entries[key]
	if e == nil {
		return nil
	}
	entry := e.Value.(*lruEntry[K, V])
	if l.expired(entry, now) {
		l.remove(e)
		return nil
	}
	l.order.MoveToFront(e)
	return &entry.value
}

// put adds or replaces. An owner that has its share already loses an entry of
// its own for it; the zero owner is never held to a share.
func (l *lru[K, V]) put(key K, value V, owner netip.Addr, now time.Time) *V {
	if e := l.entries[key]; e != nil {
		l.remove(e)
	}
	if e := l.victim(owner); e != nil {
		l.remove(e)
	}
	entry := &lruEntry[K, V]{key: key, value: value, owner: owner, until: now.Add(l.ttl)}
	l.entries[key] = l.order.PushFront(entry)
	if owner.IsValid() {
		l.shares[owner]++
	}
	return &entry.value
}

// extend is a put of the value that is there.
func (l *lru[K, V]) extend(key K, now time.Time) {
	if e := l.entries[key]; e != nil {
		e.Value.(*lruEntry[K, V]).until = now.Add(l.ttl)
		l.order.MoveToFront(e)
	}
}

func (l *lru[K, V]) delete(key K) {
	if e := l.entries[key]; e != nil {
		l.remove(e)
	}
}

func (l *lru[K, V]) len() int { return len(l.entries) }

// sweep forgets all that has expired.
func (l *lru[K, V]) sweep(now time.Time) {
	for e := l.order.Front(); e != nil; {
		next := e.Next()
		if l.expired(e.Value.(*lruEntry[K, V]), now) {
			l.remove(e)
		}
		e = next
	}
}

// victim is the entry that has to go for one more of an owner's, if any.
func (l *lru[K, V]) victim(owner netip.Addr) *list.Element {
	if owner.IsValid() && l.shares[owner] >= max(1, l.max/maxShare) {
		for e := l.order.Back(); e != nil; e = e.Prev() {
			if e.Value.(*lruEntry[K, V]).owner == owner {
				return e
			}
		}
	}
	if len(l.entries) >= l.max {
		return l.order.Back()
	}
	return nil
}

func (l *lru[K, V]) remove(e *list.Element) {
	entry := l.order.Remove(e).(*lruEntry[K, V])
	delete(l.entries, entry.key)
	if !entry.owner.IsValid() {
		return
	}
	if l.shares[entry.owner]--; l.shares[entry.owner] == 0 {
		delete(l.shares, entry.owner)
	}
}

func (l *lru[K, V]) expired(e *lruEntry[K, V], now time.Time) bool {
	return l.ttl > 0 && !now.Before(e.until)
}
