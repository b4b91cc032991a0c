package peer

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/peerservers/peerserver/protocol"
)

// TestPiecesOverABadNetwork: a tenth is lost, some come twice, some late; all
// messages of both lanes arrive once and in order.
func TestPiecesOverABadNetwork(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	out, in := outbox{run: 7}, inbox{}
	now := time.Unix(0, 0)
	var sent, got [2][][]byte
	var way []*protocol.Piece
	for steps := 0; len(got[0])+len(got[1]) < 200; steps++ {
		if steps > 100_000 {
			t.Fatal("it does not go on")
		}
		if n := len(sent[0]) + len(sent[1]); n < 200 {
			lane, b := random.IntN(2), make([]byte, random.IntN(3*maxPiece))
			binary.BigEndian.PutUint32(append(b, 0, 0, 0, 0)[:4], uint32(n))
			if out.push(lane, b) {
				sent[lane] = append(sent[lane], b)
			}
		}
		for p := out.next(); p != nil; p = out.next() {
			out.went(now)
			for range [...]int{0, 1, 1, 1, 1, 1, 1, 1, 1, 2}[random.IntN(10)] {
				way = append(way, p)
			}
		}
		if out.flight > pieceWindow || out.sent > maxFlight {
			t.Fatalf("%d bytes in %d pieces are on their way", out.flight, out.sent)
		}
		if len(way) > 0 {
			i := random.IntN(min(len(way), 8))
			list, err := in.take(way[i])
			if err != nil {
				t.Fatal(err)
			}
			way = slices.Delete(way, i, i+1)
			for _, m := range list {
				got[m.lane] = append(got[m.lane], m.data)
			}
			if random.IntN(3) > 0 {
				out.ack(in.upTo, now)
			}
		}
		now = now.Add(100 * time.Millisecond)
		if out.check(now) {
			t.Fatal("it is taken for ended")
		}
	}
	for lane := range sent {
		if !slices.EqualFunc(sent[lane], got[lane], bytes.Equal) {
			t.Errorf("other messages have come on lane %d", lane)
		}
	}
}

// TestPiecesAgain: 2, 4, 8, 10, 10 s, and the end after 30 without an
// acknowledgement.
func TestPiecesAgain(t *testing.T) {
	out := outbox{run: 7}
	out.push(laneMain, []byte("x"))
	began := time.Unix(0, 0)
	var at []int
	for now := began; ; now = now.Add(time.Second) {
		ended := out.check(now)
		if ended {
			at = append(at, int(now.Sub(began)/time.Second))
			break
		}
		for out.next() != nil {
			out.went(now)
			at = append(at, int(now.Sub(began)/time.Second))
		}
	}
	if want := []int{0, 2, 6, 14, 24, 30}; !slices.Equal(at, want) {
		t.Errorf("sent after %v, want %v", at, want)
	}
}

// TestPiecesHandOver: what was not acknowledged goes another way, with what came
// by the first one in between.
func TestPiecesHandOver(t *testing.T) {
	out, in := outbox{run: 7}, inbox{}
	for i := range 5 {
		out.push(laneMain, []byte{byte(i)})
	}
	now := time.Unix(0, 0)
	first := out.next()
	out.went(now)
	second := out.next()
	out.went(now)
	if _, err := in.take(second); err != nil {
		t.Fatal(err)
	}
	out.ack(0, now)
	var got []byte
	for _, p := range append(out.handOver(), first, second) {
		list, err := in.take(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range list {
			got = append(got, m.data...)
		}
	}
	if want := []byte{0, 1, 2, 3, 4}; !bytes.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if out.next() != nil || out.check(now.Add(time.Hour)) {
		t.Error("there is something left to be sent")
	}
}

// FuzzPieces: whatever comes, what is kept is bounded, and each sequence is
// delivered once.
func FuzzPieces(f *testing.F) {
	seed := func(list ...*protocol.Piece) {
		var all []byte
		for _, p := range list {
			b, err := proto.Marshal(p)
			if err != nil {
				f.Fatal(err)
			}
			all = append(binary.BigEndian.AppendUint16(all, uint16(len(b))), b...)
		}
		f.Add(all)
	}
	seed(&protocol.Piece{Run: 1, Sequence: 1, Channel: 1, Data: []byte("x")}, &protocol.Piece{Run: 1, Sequence: 3, Data: []byte("y")}, &protocol.Piece{Run: 1, Sequence: 2, More: true})
	seed(&protocol.Piece{Run: 1, Sequence: 0, AckRun: 1, Ack: 1 << 63}, &protocol.Piece{Run: 2, Sequence: 1, More: true, Data: make([]byte, maxPiece)})
	f.Fuzz(func(t *testing.T, b []byte) {
		in, out := inbox{}, outbox{run: 1}
		for range 20 {
			out.push(laneMain, make([]byte, 100))
			out.went(time.Unix(0, 0))
		}
		last := uint64(0)
		for len(b) > 2 {
			n := min(int(binary.BigEndian.Uint16(b)), len(b)-2)
			p := new(protocol.Piece)
			if proto.Unmarshal(b[2:2+n], p) == nil {
				out.ack(p.Ack, time.Unix(1, 0))
				list, err := in.take(p)
				if len(list) > 0 && in.upTo <= last {
					t.Fatal("something is delivered twice")
				}
				last = in.upTo
				for _, m := range list {
					if len(m.data) > MaxMessage || m.lane > laneControl {
						t.Fatalf("a message of %d bytes on lane %d", len(m.data), m.lane)
					}
				}
				if err != nil {
					return
				}
			}
			if in.bytes > pieceWindow+maxPiece || len(in.early) > maxAhead || len(in.parts[0]) > MaxMessage || len(in.parts[1]) > MaxMessage {
				t.Fatalf("%d bytes in %d pieces are kept", in.bytes, len(in.early))
			}
			if out.bytes < 0 || out.flight < 0 || out.sent > len(out.queue) {
				t.Fatalf("the outbox counts wrong: %+v", out)
			}
			b = b[2+n:]
		}
	})
}
