package relay

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/peerservers/peerserver/protocol"
)

// TestEncodeByHand: what is written by hand is what the library reads.
func TestEncodeByHand(t *testing.T) {
	long := make([]byte, 50_000)
	offers := &protocol.Offers{App: 300, From: []byte("from"), Age: 70_000, Held: true, Offers: []*protocol.Offers_Offer{
		{Id: []byte("1"), Payload: []byte("sdp"), To: []byte("12345678"), After: true}, {Id: []byte("2"), Payload: long}, {},
	}}
	for _, f := range []*protocol.Offers{offers, {}, {App: 1, From: []byte("x")}} {
		want := &protocol.Frame{Body: &protocol.Frame_Offers{Offers: f}}
		var got protocol.Frame
		if err := proto.Unmarshal(encodeOffers(f), &got); err != nil || !proto.Equal(&got, want) {
			t.Errorf("offers %.200v: %v, %.200v", f, err, &got)
		}
	}
	for _, m := range []Message{{Kind: KindAnswer, Ref: []byte("r"), Payload: long}, {Kind: KindDirect}} {
		want := &protocol.Frame{Body: &protocol.Frame_Signal{Signal: &protocol.Signal{
			App: 7, To: []byte("to"), From: []byte("from"), Ref: m.Ref, Kind: toWire[m.Kind], Payload: m.Payload,
		}}}
		var got protocol.Frame
		if err := proto.Unmarshal(encodeSignal(7, "to", "from", &m), &got); err != nil || !proto.Equal(&got, want) {
			t.Errorf("signal: %v, %.200v", err, &got)
		}
	}
}

// FuzzDecodeByHand compares the reader with the library: both refuse a packet,
// or both see the same.
func FuzzDecodeByHand(f *testing.F) {
	for _, p := range []*protocol.Packet{
		{Ack: 9, Frames: []*protocol.Frame{{Seq: 3, Body: &protocol.Frame_Offers{Offers: &protocol.Offers{
			App: 1, From: []byte("x"), Age: 3, Held: true, Offers: []*protocol.Offers_Offer{{Id: []byte("i"), Payload: []byte("p"), To: []byte("t"), After: true}, {}},
		}}}}},
		{Frames: []*protocol.Frame{{Seq: 300, Body: &protocol.Frame_Signal{Signal: &protocol.Signal{
			App: 1, To: []byte("x"), From: []byte("f"), Ref: []byte("r"), Kind: 1, Payload: []byte("p"),
		}}}, {Body: &protocol.Frame_Ping{Ping: &protocol.Ping{Nonce: 4}}}}},
		{Frames: []*protocol.Frame{{Body: &protocol.Frame_Probe{Probe: &protocol.Probe{Nonce: 4, Url: "ws://192.0.2.1:8787"}}}}},
	} {
		b, err := proto.Marshal(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	var r packetReader // the same for all, so that nothing is left over
	f.Fuzz(func(t *testing.T, b []byte) {
		var want protocol.Packet
		wantErr := proto.Unmarshal(b, &want)
		var got protocol.Packet
		ack, gotErr := r.packet(b, func(f *protocol.Frame) error {
			got.Frames = append(got.Frames, proto.CloneOf(f))
			return nil
		})
		got.Ack = ack
		if (wantErr == nil) != (gotErr == nil) {
			t.Fatalf("the library says %v, by hand %v", wantErr, gotErr)
		}
		if wantErr != nil {
			return
		}
		// Fields that are not known are kept by one and skipped by the other.
		discard(&want)
		discard(&got)
		if !proto.Equal(&want, &got) {
			t.Fatalf("the library reads %v, by hand %v", &want, &got)
		}
	})
}

func discard(p *protocol.Packet) {
	p.ProtoReflect().SetUnknown(nil)
	for _, f := range p.Frames {
		f.ProtoReflect().SetUnknown(nil)
		if o := f.GetOffers(); o != nil {
			o.ProtoReflect().SetUnknown(nil)
			for _, x := range o.Offers {
				x.ProtoReflect().SetUnknown(nil)
			}
		}
		if s := f.GetSignal(); s != nil {
			s.ProtoReflect().SetUnknown(nil)
		}
	}
}
