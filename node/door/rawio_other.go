//go:build !unix

package door

import (
	"errors"
	"syscall"
)

func (hc *hotConn) prime() bool { return false }

// ready makes await possible: with a read that blocks and holds a buffer.
func (hc *hotConn) ready() bool {
	hc.raw, hc.fill = blocking{}, hc.readOnce
	return true
}

// blocking is a syscall.RawConn whose functions do not need the descriptor.
type blocking struct{ syscall.RawConn }

func (blocking) Read(f func(uintptr) bool) error {
	f(0)
	return nil
}

func (hc *hotConn) readOnce(uintptr) bool {
	in := readBuffers.Get().(*buffer)
	n, err := hc.TCPConn.Read(in.b)
	if n > 0 {
		hc.in, hc.pos, hc.end = in, 0, n
		return true
	}
	readBuffers.Put(in)
	hc.err = err
	return true
}

func tooManyFiles(error) bool { return false }

type rawWriter struct{}

func newRawWriter() *rawWriter { return new(rawWriter) }

func (w *rawWriter) write(*hotConn, []byte) (int, error) {
	return 0, errors.New("door: no raw writes on this system")
}
