package peer

import (
	"context"
	"errors"
	"strings"

	"github.com/peerservers/peerserver/protocol"
)

// Codes of errors of calls, on the wire. Apps have others.
const (
	CodeUnknownCommand = "unknown_command" // there is no such handler
	CodeTimeout        = "timeout"         // the handler ran out of time
	CodeCancelled      = "cancelled"       // the handler was told to stop
	CodeBusy           = "busy"            // too many calls of this peer run; again later
	CodeTooLarge       = "too_large"       // an argument or value over MaxValue
	CodeMalformed      = "malformed"       // an argument that is not what the handler expects
	CodeFailed         = "failed"          // any other error of the handler
)

const (
	maxCode = 64
	maxText = 1 << 10
)

// RemoteError is what the other side answers instead of a value. A handler
// returns one to choose what its caller gets: Code of at most 64 bytes, Text of
// at most 1 KiB, and Data of at most 32 KiB.
//
// Text is the other side's: nothing says that it is true, or fit for a terminal.
type RemoteError struct {
	Code string // for programs: one of those here, of [protocol.Code] or of the app
	Text string // for people
	Data Value
}

func (e *RemoteError) Error() string { return e.Code + ": " + e.Text }

// Is makes "timeout" a [context.DeadlineExceeded] and "cancelled" a
// [context.Canceled].
func (e *RemoteError) Is(target error) bool {
	return e.Code == CodeTimeout && target == context.DeadlineExceeded || e.Code == CodeCancelled && target == context.Canceled
}

// failureOf is what a handler's error is to its caller.
func failureOf(err error) *RemoteError {
	if e, ok := errors.AsType[*RemoteError](err); ok {
		data, err := valueOf(e.Data, maxPart)
		if err != nil {
			data = Value{}
		}
		return (&RemoteError{e.Code, e.Text, data}).clipped()
	}
	e := &RemoteError{Code: CodeFailed, Text: err.Error()}
	if p, ok := errors.AsType[*protocol.Error](err); ok {
		e.Code = p.Code.String()
	} else if errors.Is(err, context.DeadlineExceeded) {
		e.Code = CodeTimeout
	} else if errors.Is(err, context.Canceled) {
		e.Code = CodeCancelled
	}
	return e.clipped()
}

// clipped is the error within its limits, which the other side may not keep.
func (e *RemoteError) clipped() *RemoteError {
	e.Code, e.Text = clip(e.Code, maxCode), clip(e.Text, maxText)
	if e.Code == "" {
		e.Code = CodeFailed
	}
	return e
}

// clip cuts a text so that it stays UTF-8, which protobuf asks for.
func clip(s string, most int) string {
	if len(s) > most {
		s = s[:most]
	}
	if s = strings.ToValidUTF8(s, "\ufffd"); len(s) > most {
		s = strings.ToValidUTF8(s[:most], "")
	}
	return s
}

func (e *RemoteError) wire(id uint32) *protocol.Control {
	m := &protocol.CallError{Id: id, Code: e.Code, Text: e.Text, Data: e.Data.wire()}
	return &protocol.Control{Body: &protocol.Control_CallError{CallError: m}}
}

func remoteError(m *protocol.CallError) *RemoteError {
	var whole pieces
	data, _, err := whole.add(m.GetData(), false)
	if err != nil {
		data = Value{}
	}
	return (&RemoteError{m.GetCode(), m.GetText(), data}).clipped()
}
