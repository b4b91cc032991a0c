package protocol

import "fmt"

// Code is a stable error code: the same number on links, and the same name in
// logs, JSON and close reasons, for ever.
type Code uint32

// Codes.
const (
	CodeOK          Code = 0
	CodeInternal    Code = 1  // anything unexpected; says nothing else
	CodeMalformed   Code = 2  // not of the protocol
	CodeTooLarge    Code = 3  // over a size of limits.go
	CodeRate        Code = 4  // too many; retry after says when
	CodeUnknownPeer Code = 5  // no such member
	CodeNodeGone    Code = 6  // the node behind which the member was is not reached
	CodeFull        Code = 7  // a queue, swarm or node is full
	CodeDenied      Code = 8  // token, origin or app not allowed
	CodeVersion     Code = 9  // another major version
	CodeTaken       Code = 10 // the name is held by somebody else
	CodeStale       Code = 11 // a record or frame too old, or lower than one seen
	CodeSignature   Code = 12 // does not verify
	CodeExpired     Code = 13 // an offer that is spent or too old
	CodeDraining    Code = 14 // the node stops; go to another
	CodeRefused     Code = 15 // an address that dial policy forbids
)

var codeNames = [...]string{
	"ok", "internal", "malformed", "too_large", "rate", "unknown_peer", "node_gone", "full",
	"denied", "version", "taken", "stale", "signature", "expired", "draining", "refused",
}

func (c Code) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return fmt.Sprintf("code_%d", uint32(c))
}

// Error is a failure with a stable code for programs and a sentence for
// people.
type Error struct {
	Code Code
	Text string
}

func (e *Error) Error() string { return e.Text }

// Errorf makes an Error.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Text: fmt.Sprintf(format, args...)}
}

// WebSocket close codes of a link and of a client's connection beyond those of
// RFC 6455.
const (
	CloseServiceRestart = 1012 // the node drains
	CloseTryAgainLater  = 1013 // the client is too slow, or the node is full
	CloseVersion        = 4001 // another major version
	CloseMalformed      = 4002 // garbage inside a link
	CloseDenied         = 4003 // token, origin or app not allowed
)
