package native

import (
	"errors"
	"fmt"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// refusal is why a request failed: a code for programs, a sentence for people,
// and after how long the same request may succeed, 0 if it will not.
type refusal struct {
	code  protocol.Code
	text  string
	retry time.Duration
}

// refuse makes a refusal with the usual time of its code.
func refuse(code protocol.Code, format string, args ...any) *refusal {
	return &refusal{code, fmt.Sprintf(format, args...), usualRetry(code)}
}

func usualRetry(code protocol.Code) time.Duration {
	switch code {
	case protocol.CodeRate, protocol.CodeFull:
		return time.Second
	case protocol.CodeNodeGone:
		return protocol.GiveUpPresence
	}
	return 0
}

// after says when to try again.
func (r *refusal) after(d time.Duration) *refusal {
	r.retry = d
	return r
}

// refuseError is what a client is told of an error: its code, or that it is
// ours.
func refuseError(err error) *refusal {
	if e, ok := errors.AsType[*protocol.Error](err); ok {
		return refuse(e.Code, "%s", e.Text)
	}
	return refuse(protocol.CodeInternal, "internal")
}

// refuseJoin says when a full node may have room again. That another node has,
// the error says.
func refuseJoin(err error) *refusal {
	r := refuseError(err)
	if r.code == protocol.CodeFull {
		r.retry = 30 * time.Second
	}
	return r
}

// refuseSend is for an envelope that does not reach its member.
func refuseSend(code protocol.Code) *refusal {
	text := code.String()
	switch code {
	case protocol.CodeUnknownPeer:
		text = "no such member"
	case protocol.CodeNodeGone:
		text = "the member's node is not reached, or it has moved to another"
	case protocol.CodeFull:
		text = "the member does not keep up"
	}
	return refuse(code, "send: %s", text)
}

// message is the refusal of the request with that ref. Its time is rounded up,
// so that who waits for so long is not too early.
func (r *refusal) message(ref uint32) *protocol.ToPeer {
	return &protocol.ToPeer{Ref: ref, Body: &protocol.ToPeer_Refused{Refused: &protocol.Refused{
		Code: uint32(r.code), Text: r.text, RetryAfter: uint32((r.retry + time.Millisecond - 1) / time.Millisecond),
	}}}
}
