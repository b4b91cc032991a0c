package relay

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/peerservers/peerserver/protocol"
)

// Offers and Signals are nearly all that flows on a busy link. They are written
// and read here by hand, without copies, in the form that the schema gives
// them; everything else goes through the protobuf library. A fuzz test compares
// the two.

// Field numbers of protocol/peerserver.proto.
const (
	fieldAck    protowire.Number = 1 // of Packet
	fieldFrames protowire.Number = 2
	fieldSeq    protowire.Number = 1 // of Frame
	fieldOffers protowire.Number = 5
	fieldSignal protowire.Number = 6
)

func appendBytesField(b []byte, n protowire.Number, v []byte) []byte {
	if len(v) == 0 {
		return b
	}
	return protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), v)
}

func appendStringField(b []byte, n protowire.Number, v string) []byte {
	if v == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, n, protowire.BytesType), v)
}

func appendNumberField(b []byte, n protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), v)
}

// consumeTag is protowire's with the bound on numbers that the library has.
func consumeTag(b []byte) (protowire.Number, protowire.Type, int) {
	n, t, k := protowire.ConsumeTag(b)
	if n > protowire.MaxValidNumber {
		k = -1
	}
	return n, t, k
}

// The sizes of what the three above append.

func sizeBytesField(n int) int {
	if n == 0 {
		return 0
	}
	return 1 + protowire.SizeBytes(n)
}

func sizeNumberField(v uint64) int {
	if v == 0 {
		return 0
	}
	return 1 + protowire.SizeVarint(v)
}

// beginFrame is a Frame up to the inside of a body of n bytes.
func beginFrame(kind protowire.Number, n int) []byte {
	b := newBody(1 + protowire.SizeBytes(n))
	b = protowire.AppendTag(b, kind, protowire.BytesType)
	return protowire.AppendVarint(b, uint64(n))
}

func sizeOffer(o *protocol.Offers_Offer) int {
	n := sizeBytesField(len(o.Id)) + sizeBytesField(len(o.Payload)) + sizeBytesField(len(o.To))
	if o.After {
		n += sizeNumberField(1)
	}
	return n
}

// encodeOffers is a Frame with f, without its sequence.
func encodeOffers(f *protocol.Offers) []byte {
	var held uint64
	if f.Held {
		held = 1
	}
	n := sizeNumberField(uint64(f.App)) + sizeBytesField(len(f.From)) + sizeNumberField(uint64(f.Age)) + sizeNumberField(held)
	for _, o := range f.Offers {
		n += 1 + protowire.SizeBytes(sizeOffer(o)) // written also when it is empty
	}
	b := beginFrame(fieldOffers, n)
	b = appendNumberField(b, 1, uint64(f.App))
	b = appendBytesField(b, 2, f.From)
	b = appendNumberField(b, 3, uint64(f.Age))
	b = appendNumberField(b, 4, held)
	for _, o := range f.Offers {
		b = protowire.AppendTag(b, 5, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(sizeOffer(o)))
		b = appendBytesField(b, 1, o.Id)
		b = appendBytesField(b, 2, o.Payload)
		b = appendBytesField(b, 3, o.To)
		if o.After {
			b = appendNumberField(b, 4, 1)
		}
	}
	return b
}

// encodeSignal is a Frame with a signal, without its sequence.
func encodeSignal(app uint32, to, from string, msg *Message) []byte {
	kind := uint64(toWire[msg.Kind])
	b := beginFrame(fieldSignal, sizeNumberField(uint64(app))+sizeBytesField(len(to))+sizeBytesField(len(from))+
		sizeBytesField(len(msg.Ref))+sizeNumberField(kind)+sizeBytesField(len(msg.Payload)))
	b = appendNumberField(b, 1, uint64(app))
	b = appendStringField(b, 2, to)
	b = appendStringField(b, 3, from)
	b = appendBytesField(b, 4, msg.Ref)
	b = appendNumberField(b, 5, kind)
	return appendBytesField(b, 6, msg.Payload)
}

// reader takes packets apart. What it returns is valid until its next use, and
// until the packet's own bytes are overwritten.
type packetReader struct {
	offers protocol.Offers
	spare  []*protocol.Offers_Offer
	signal protocol.Signal
	frame  protocol.Frame
	asOf   protocol.Frame_Offers
	asSig  protocol.Frame_Signal
}

// packet calls do for every frame, and returns what the packet acknowledges and
// how much there was to do.
func (r *packetReader) packet(b []byte, do func(*protocol.Frame) error) (ack uint64, err error) {
	for len(b) > 0 {
		n, t, k := consumeTag(b)
		if k < 0 {
			return 0, errPacket
		}
		b = b[k:]
		switch {
		case n == fieldAck && t == protowire.VarintType:
			ack, k = protowire.ConsumeVarint(b)
		case n == fieldFrames && t == protowire.BytesType:
			var raw []byte
			if raw, k = protowire.ConsumeBytes(b); k >= 0 {
				f, err := r.readFrame(raw)
				if err != nil {
					return 0, err
				}
				if err := do(f); err != nil {
					return 0, err
				}
			}
		default:
			k = protowire.ConsumeFieldValue(n, t, b)
		}
		if k < 0 {
			return 0, errPacket
		}
		b = b[k:]
	}
	return ack, nil
}

var errPacket = protocol.Errorf(protocol.CodeMalformed, "packet does not parse")

// readFrame reads a frame of one body by hand if it is one of the two, and any
// other by the library.
func (r *packetReader) readFrame(raw []byte) (*protocol.Frame, error) {
	var seq uint64
	var body []byte
	var kind protowire.Number
	for b := raw; len(b) > 0; {
		n, t, k := consumeTag(b)
		if k < 0 {
			return nil, errPacket
		}
		b = b[k:]
		switch {
		case n == fieldSeq && t == protowire.VarintType:
			seq, k = protowire.ConsumeVarint(b)
		case (n == fieldOffers || n == fieldSignal) && t == protowire.BytesType && kind == 0:
			kind = n
			body, k = protowire.ConsumeBytes(b)
		default:
			return r.readSlowly(raw)
		}
		if k < 0 {
			return nil, errPacket
		}
		b = b[k:]
	}
	r.frame.Seq = seq
	switch kind {
	case fieldOffers:
		r.asOf.Offers, r.frame.Body = &r.offers, &r.asOf
		return &r.frame, r.readOffers(body)
	case fieldSignal:
		r.asSig.Signal, r.frame.Body = &r.signal, &r.asSig
		return &r.frame, r.readSignal(body)
	}
	return r.readSlowly(raw)
}

func (r *packetReader) readSlowly(raw []byte) (*protocol.Frame, error) {
	f := new(protocol.Frame)
	if proto.Unmarshal(raw, f) != nil {
		return nil, errPacket
	}
	return f, nil
}

// fields calls set for each field of a message; set takes what it knows, as a
// number or as bytes.
func fields(b []byte, set func(n protowire.Number, v uint64, raw []byte) error) error {
	for len(b) > 0 {
		n, t, k := consumeTag(b)
		if k < 0 {
			return errPacket
		}
		b = b[k:]
		var err error
		switch t {
		case protowire.VarintType:
			var v uint64
			if v, k = protowire.ConsumeVarint(b); k >= 0 {
				err = set(n, v, nil)
			}
		case protowire.BytesType:
			var raw []byte
			if raw, k = protowire.ConsumeBytes(b); k >= 0 {
				if raw == nil {
					raw = []byte{}
				}
				err = set(n, 0, raw)
			}
		default:
			k = protowire.ConsumeFieldValue(n, t, b)
		}
		if k < 0 {
			return errPacket
		}
		if err != nil {
			return err
		}
		b = b[k:]
	}
	return nil
}

func (r *packetReader) readOffers(b []byte) error {
	f := &r.offers
	f.App, f.From, f.Age, f.Held = 0, nil, 0, false
	r.spare = append(r.spare, f.Offers...)
	f.Offers = f.Offers[:0]
	return fields(b, func(n protowire.Number, v uint64, raw []byte) error {
		switch {
		case n == 1 && raw == nil:
			f.App = uint32(v)
		case n == 2 && raw != nil:
			f.From = raw
		case n == 3 && raw == nil:
			f.Age = uint32(v)
		case n == 4 && raw == nil:
			f.Held = v != 0
		case n == 5 && raw != nil:
			o := r.newOffer()
			f.Offers = append(f.Offers, o)
			return fields(raw, func(n protowire.Number, v uint64, raw []byte) error {
				switch {
				case n == 4 && raw == nil:
					o.After = v != 0
				case raw == nil:
				case n == 1:
					o.Id = raw
				case n == 2:
					o.Payload = raw
				case n == 3:
					o.To = raw
				}
				return nil
			})
		}
		return nil
	})
}

func (r *packetReader) newOffer() *protocol.Offers_Offer {
	o := pop(&r.spare)
	if o == nil {
		return new(protocol.Offers_Offer)
	}
	o.Id, o.Payload, o.To, o.After = nil, nil, nil, false
	return o
}

func (r *packetReader) readSignal(b []byte) error {
	f := &r.signal
	f.App, f.To, f.From, f.Ref, f.Kind, f.Payload = 0, nil, nil, nil, 0, nil
	return fields(b, func(n protowire.Number, v uint64, raw []byte) error {
		switch {
		case n == 1 && raw == nil:
			f.App = uint32(v)
		case n == 2 && raw != nil:
			f.To = raw
		case n == 3 && raw != nil:
			f.From = raw
		case n == 4 && raw != nil:
			f.Ref = raw
		case n == 5 && raw == nil:
			f.Kind = protocol.Signal_Kind(v)
		case n == 6 && raw != nil:
			f.Payload = raw
		}
		return nil
	})
}
