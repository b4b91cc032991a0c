//go:build unix

package door

import (
	"errors"
	"io"
	"syscall"
)

// ready makes await possible.
func (hc *hotConn) ready() bool { return hc.prime() }

// prime makes hc able to read and write through the runtime's poller itself.
// It reports false when the connection is closed.
func (hc *hotConn) prime() bool {
	if hc.raw != nil {
		return true
	}
	raw, err := hc.SyscallConn()
	if err != nil {
		return false
	}
	hc.raw, hc.fill = raw, hc.readOnce
	return true
}

// tooManyFiles says whether an Accept failed for want of descriptors.
func tooManyFiles(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ECONNABORTED)
}

// readOnce is called when there may be something to read, and reports false to
// wait on. A waiting connection holds no buffer. It does nothing else: what
// runs in here grows the stack of every connection's goroutine.
func (hc *hotConn) readOnce(fd uintptr) bool {
	in := readBuffers.Get().(*buffer)
	for {
		n, err := syscall.Read(int(fd), in.b)
		if n > 0 {
			hc.in, hc.pos, hc.end = in, 0, n
			return true
		}
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		readBuffers.Put(in)
		if errors.Is(err, syscall.EAGAIN) {
			return false
		}
		if hc.err = err; err == nil {
			hc.err = io.EOF
		}
		return true
	}
}

// rawWriter makes one attempt at a write. Each flusher has one, so that a
// write allocates nothing.
type rawWriter struct {
	b   []byte
	n   int
	err error
	fn  func(fd uintptr) bool // w.attempt, made once
}

func newRawWriter() *rawWriter {
	w := new(rawWriter)
	w.fn = w.attempt
	return w
}

// attempt never asks to be called again. The descriptor cannot be closed and
// given to somebody else while RawConn.Write runs it.
func (w *rawWriter) attempt(fd uintptr) bool {
	for {
		w.n, w.err = syscall.Write(int(fd), w.b)
		if errors.Is(w.err, syscall.EINTR) {
			continue
		}
		if errors.Is(w.err, syscall.EAGAIN) {
			w.err = nil
		}
		w.n = max(w.n, 0)
		return true
	}
}

// write writes what the kernel takes of b at once.
func (w *rawWriter) write(hc *hotConn, b []byte) (int, error) {
	w.b, w.n, w.err = b, 0, nil
	err := hc.raw.Write(w.fn)
	w.b = nil
	if err == nil {
		err = w.err
	}
	return w.n, err
}
