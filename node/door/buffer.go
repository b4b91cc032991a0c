package door

import "sync"

// Sizes of pooled buffers. One read takes what the kernel has of several
// frames; most messages fit the same size.
const (
	readSize = 16 << 10
	keepSize = 64 << 10 // larger out buffers go to the garbage collector
)

// buffer is pooled by pointer, so that neither Get nor Put allocates.
type buffer struct{ b []byte }

var (
	readBuffers  = sync.Pool{New: func() any { return &buffer{make([]byte, readSize)} }}
	largeBuffers = sync.Pool{New: func() any { return &buffer{make([]byte, maxMessage+1)} }}
	outBuffers   = sync.Pool{New: func() any { return &buffer{make([]byte, 0, 2<<10)} }}
)

func newOut() *buffer { return outBuffers.Get().(*buffer) }

func freeOut(b *buffer) {
	if cap(b.b) <= keepSize {
		b.b = b.b[:0]
		outBuffers.Put(b)
	}
}
