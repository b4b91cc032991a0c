package relay

import "time"

// expiring is a map whose entries live between one and two periods and that
// holds at most max entries a generation: when a generation is full the oldest
// one goes early. Its zero value with period and max set is ready; it holds no
// memory while empty.
type expiring[K comparable, V any] struct {
	period     instant
	max        int
	young, old map[K]V
	turned     instant
}

func (e *expiring[K, V]) turn(now instant) {
	switch age := now - e.turned; {
	case age >= 2*e.period:
		e.young, e.old, e.turned = nil, nil, now
	case age >= e.period || len(e.young) >= e.max:
		e.old, e.young, e.turned = e.young, nil, now
	}
}

func (e *expiring[K, V]) put(k K, v V, now instant) {
	e.turn(now)
	if e.young == nil {
		e.young = make(map[K]V)
	}
	e.young[k] = v
}

// get finds an entry without taking it.
func (e *expiring[K, V]) get(k K, now instant) (V, bool) {
	e.turn(now)
	if v, ok := e.young[k]; ok {
		return v, true
	}
	v, ok := e.old[k]
	return v, ok
}

// take finds an entry and removes it: it is good once.
func (e *expiring[K, V]) take(k K, now instant) (V, bool) {
	v, ok := e.get(k, now)
	if ok {
		delete(e.young, k)
		delete(e.old, k)
	}
	return v, ok
}

// instant is a time in nanoseconds since the relay was made; it takes a third
// of the room of a time.Time, and there are many.
type instant int64

func (i instant) add(d time.Duration) instant { return i + instant(d) }

func ns(d time.Duration) instant { return instant(d) }

// millis is an age as it travels.
func millis(d instant) uint32 {
	return uint32(min(max(int64(d)/int64(time.Millisecond), 0), 1<<31))
}

func fromMillis(ms uint32) instant { return instant(ms) * instant(time.Millisecond) }
