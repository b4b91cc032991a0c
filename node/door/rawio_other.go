//go:build !unix

package door

import "errors"

const canHeat = false

func (hc *hotConn) prime() bool { return false }

func (hc *hotConn) readOnce(uintptr) bool { return true }

func tooManyFiles(error) bool { return false }

type rawWriter struct{}

func newRawWriter() *rawWriter { return new(rawWriter) }

func (w *rawWriter) write(*hotConn, []byte) (int, error) {
	return 0, errors.New("door: no raw writes on this system")
}
