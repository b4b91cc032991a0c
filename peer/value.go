package peer

import (
	"encoding/json"
	"slices"

	"github.com/peerservers/peerserver/protocol"
)

const (
	// MaxValue is the largest argument or value of a call, in bytes: of JSON, or
	// of bytes.
	MaxValue = 1 << 20

	maxPart = 32 << 10 // of a value that goes in several messages, of progress, and of what comes with an error
)

// Value is what goes to a command or comes from one: JSON, bytes, or, the zero
// value, nothing. At most one of the fields is not nil.
type Value struct {
	JSON  json.RawMessage
	Bytes []byte
}

// IsNone says that there is nothing.
func (v Value) IsNone() bool { return v.JSON == nil && v.Bytes == nil }

// Decode stores the value in what into points to: bytes in a *[]byte, JSON in
// anything that [json.Unmarshal] takes. It fails with [protocol.CodeMalformed]
// if it is of another kind, or nothing; a handler that returns that error tells
// the caller so.
func (v Value) Decode(into any) error {
	if b, ok := into.(*[]byte); ok && v.Bytes != nil {
		*b = v.Bytes
		return nil
	}
	switch {
	case v.Bytes != nil:
		return protocol.Errorf(protocol.CodeMalformed, "there are bytes where JSON is expected")
	case v.JSON == nil:
		return protocol.Errorf(protocol.CodeMalformed, "there is no value where JSON is expected")
	}
	if err := json.Unmarshal(v.JSON, into); err != nil {
		return protocol.Errorf(protocol.CodeMalformed, "the JSON is not what is expected: %v", err)
	}
	return nil
}

func (v Value) size() int { return len(v.JSON) + len(v.Bytes) }

// valueOf makes a Value of what is given to a call or returned by a handler.
func valueOf(from any, most int) (Value, error) {
	var v Value
	switch from := from.(type) {
	case nil:
	case []byte:
		v.Bytes = emptyNotNil(from)
	case Value:
		if v = from; v.JSON != nil && !json.Valid(v.JSON) {
			return Value{}, protocol.Errorf(protocol.CodeMalformed, "Value.JSON is not JSON")
		}
	default:
		b, err := json.Marshal(from)
		if err != nil {
			return Value{}, protocol.Errorf(protocol.CodeMalformed, "this has no JSON: %v", err)
		}
		v.JSON = b
	}
	if v.JSON != nil && v.Bytes != nil {
		return Value{}, protocol.Errorf(protocol.CodeMalformed, "a Value has JSON or bytes, not both")
	}
	if v.size() > most {
		return Value{}, protocol.Errorf(protocol.CodeTooLarge, "a value of %d bytes is over %d", v.size(), most)
	}
	return v, nil
}

func emptyNotNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// wire is the value as one message, nil for nothing.
func (v Value) wire() *protocol.Value {
	switch {
	case v.JSON != nil:
		return &protocol.Value{Kind: &protocol.Value_Json{Json: v.JSON}}
	case v.Bytes != nil:
		return &protocol.Value{Kind: &protocol.Value_Bytes{Bytes: v.Bytes}}
	}
	return nil
}

// parts are the value as the messages that it takes, at least one.
func (v Value) parts() []*protocol.Value {
	if v.size() <= maxPart {
		return []*protocol.Value{v.wire()}
	}
	var all []*protocol.Value
	for part := range slices.Chunk(v.JSON, maxPart) {
		all = append(all, Value{JSON: part}.wire())
	}
	for part := range slices.Chunk(v.Bytes, maxPart) {
		all = append(all, Value{Bytes: part}.wire())
	}
	return all
}

// pieces puts the parts of a value together. The zero value has none yet.
type pieces struct {
	v    Value
	some bool // there was a part
}

// add takes the next part. When it was the last, done is true, the value is
// checked, and the next part begins another.
func (p *pieces) add(part *protocol.Value, more bool) (v Value, done bool, err error) {
	switch k := part.GetKind().(type) {
	case *protocol.Value_Json:
		if p.some && p.v.JSON == nil {
			return Value{}, false, mixed()
		}
		p.v.JSON = append(emptyNotNil(p.v.JSON), k.Json...)
	case *protocol.Value_Bytes:
		if p.some && p.v.Bytes == nil {
			return Value{}, false, mixed()
		}
		p.v.Bytes = append(emptyNotNil(p.v.Bytes), k.Bytes...)
	default: // nothing, or a kind of a later version
		if p.some || more {
			return Value{}, false, mixed()
		}
	}
	p.some = true
	if p.v.size() > MaxValue {
		return Value{}, false, protocol.Errorf(protocol.CodeTooLarge, "a value is over %d bytes", MaxValue)
	}
	if more {
		return Value{}, false, nil
	}
	v, *p = p.v, pieces{}
	if v.JSON != nil && !json.Valid(v.JSON) {
		return Value{}, false, protocol.Errorf(protocol.CodeMalformed, "what should be JSON is not")
	}
	return v, true, nil
}

func mixed() error {
	return protocol.Errorf(protocol.CodeMalformed, "the parts of a value do not fit together")
}
