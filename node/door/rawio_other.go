//go:build !unix

package door

import "errors"

func (hc *hotConn) heat() bool { return false }

type rawWriter struct{}

func newRawWriter() *rawWriter { return new(rawWriter) }

func (w *rawWriter) write(*hotConn, []byte) (int, error) {
	return 0, errors.New("door: no raw writes on this system")
}
