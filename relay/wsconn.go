package relay

import (
	"errors"
	"fmt"
)

// Close codes of RFC 6455 that a link uses beside those in protocol.
const (
	closeGoingAway = 1001
	closeTooBig    = 1009
)

// closeError is the end of a Conn that the other side asked for.
type closeError struct{ code int }

func (e *closeError) Error() string { return fmt.Sprintf("the other node closed with code %d", e.code) }

// closeCode is the WebSocket close code with which the other side ended a
// Conn, 0 when it ended in another way.
func closeCode(err error) int {
	var e *closeError
	if errors.As(err, &e) {
		return e.code
	}
	return 0
}
