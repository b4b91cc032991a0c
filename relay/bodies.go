package relay

import "sync"

// Frames wait in links until they are acknowledged: on a busy link a megabyte
// at any moment, all of it new within milliseconds. The bodies of Offers and
// Signals are therefore pooled, in two sizes: that of a signal, and that of an
// announce's offers.
const (
	smallBody = 2 << 10
	largeBody = 8 << 10
)

var (
	smallBodies = sync.Pool{New: func() any { return new([smallBody]byte) }}
	largeBodies = sync.Pool{New: func() any { return new([largeBody]byte) }}
)

// newBody is an empty slice with room for n bytes.
func newBody(n int) []byte {
	switch {
	case n <= smallBody:
		return smallBodies.Get().(*[smallBody]byte)[:0]
	case n <= largeBody:
		return largeBodies.Get().(*[largeBody]byte)[:0]
	}
	return make([]byte, 0, n)
}

// freeBody gives back a body that nobody uses any more.
func freeBody(b []byte) {
	switch cap(b) {
	case smallBody:
		smallBodies.Put((*[smallBody]byte)(b[:smallBody]))
	case largeBody:
		largeBodies.Put((*[largeBody]byte)(b[:largeBody]))
	}
}
