package gear

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// readBuffer is for several messages at once.
const readBuffer = 8 << 10

// Socket is one WebSocket of a generator.
type Socket struct {
	nc net.Conn
	in *Frames // of Read

	mu  sync.Mutex
	out []byte
	rnd *rand.PCG
}

// NewSocket makes it of what Dial returned; masks are made from the seeds.
func NewSocket(nc net.Conn, early []byte, seed1, seed2 uint64) *Socket {
	return &Socket{nc: nc, in: NewFrames(nc, readBuffer, early), rnd: rand.NewPCG(seed1, seed2)}
}

// Read gives every text to f, with when it was read, until the connection ends,
// and says why it did. Pings are answered.
func (s *Socket) Read(now func() int64, f func(text []byte, now int64)) error {
	defer s.nc.Close()
	for {
		at := now()
		for {
			opcode, b, ok, err := s.in.Next()
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			switch opcode {
			case OpText:
				f(b, at)
			case OpPing:
				s.Send(OpPong, func(out []byte) []byte { return append(out, b...) })
			case OpClose:
				return closed(b)
			}
		}
		if err := s.in.Fill(); err != nil {
			return err
		}
	}
}

func closed(b []byte) error {
	code := 0
	if len(b) >= 2 {
		code = int(binary.BigEndian.Uint16(b))
		b = b[2:]
	}
	return fmt.Errorf("the server closes with code %d: %.100q", code, b)
}

// Send sends one frame, of what write appends. It may be called from several
// goroutines.
func (s *Socket) Send(opcode byte, write func([]byte) []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cap(s.out) < Room {
		s.out = make([]byte, Room, 2<<10)
	}
	s.out = write(s.out[:Room])
	// An error here is one of Read too.
	_, _ = s.nc.Write(Finish(s.out, opcode, uint32(s.rnd.Uint64())))
}

// Close ends the connection, and Read.
func (s *Socket) Close() { s.nc.Close() }
