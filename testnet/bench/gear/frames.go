package gear

import (
	"encoding/binary"
	"errors"
	"io"
)

// Opcodes of RFC 6455.
const (
	OpText  = 1
	OpClose = 8
	OpPing  = 9
	OpPong  = 10
)

// Room is kept free before a message, for the longest header of a frame.
const Room = 14

// Finish makes a frame of b, whose first Room bytes are free, and returns where
// it begins.
func Finish(b []byte, opcode byte, mask uint32) []byte {
	n := len(b) - Room
	at := Room - 4
	binary.LittleEndian.PutUint32(b[at:], mask)
	switch {
	case n < 126:
		at -= 2
		b[at+1] = byte(n)
	case n < 1<<16:
		at -= 4
		b[at+1] = 126
		binary.BigEndian.PutUint16(b[at+2:], uint16(n))
	default:
		at -= 10
		b[at+1] = 127
		binary.BigEndian.PutUint64(b[at+2:], uint64(n))
	}
	b[at] = 0x80 | opcode
	b[at+1] |= 0x80
	long := uint64(mask)<<32 | uint64(mask)
	p := b[Room:]
	for ; len(p) >= 8; p = p[8:] {
		binary.LittleEndian.PutUint64(p, binary.LittleEndian.Uint64(p)^long)
	}
	for i := range p {
		p[i] ^= byte(long >> (8 * i))
	}
	return b[at:]
}

// Frames reads the frames of a server.
type Frames struct {
	c        io.Reader
	buf      []byte
	pos, end int
}

// NewFrames reads from c into a buffer of so many bytes, which grows to what a
// message needs. What has come early is the beginning.
func NewFrames(c io.Reader, size int, early []byte) *Frames {
	f := &Frames{c: c, buf: make([]byte, max(size, len(early)))}
	f.end = copy(f.buf, early)
	return f
}

// errFrame is a server that breaks RFC 6455, or splits messages, which no
// server of ours or of reference does.
var errFrame = errors.New("a frame that no server sends")

// maxFrame bounds what a server may send at once.
const maxFrame = 1 << 20

// Fill reads what there is, at least something.
func (f *Frames) Fill() error {
	if f.pos > 0 {
		f.end = copy(f.buf, f.buf[f.pos:f.end])
		f.pos = 0
	}
	if f.end == len(f.buf) {
		f.buf = append(f.buf, make([]byte, len(f.buf))...)
	}
	n, err := f.c.Read(f.buf[f.end:])
	f.end += n
	if n > 0 {
		return nil
	}
	return err
}

// Next is the next frame that has come whole; ok is false when there is none.
func (f *Frames) Next() (opcode byte, payload []byte, ok bool, err error) {
	b := f.buf[f.pos:f.end]
	if len(b) < 2 {
		return 0, nil, false, nil
	}
	n, size := uint64(b[1]), 2
	switch {
	case b[0]&0xf0 != 0x80 || b[1]&0x80 != 0:
		return 0, nil, false, errFrame
	case n == 126:
		if size = 4; len(b) >= size {
			n = uint64(binary.BigEndian.Uint16(b[2:]))
		}
	case n == 127:
		if size = 10; len(b) >= size {
			n = binary.BigEndian.Uint64(b[2:])
		}
	}
	if n > maxFrame {
		return 0, nil, false, errFrame
	}
	if len(b) < size+int(n) {
		return 0, nil, false, nil
	}
	f.pos += size + int(n)
	return b[0] & 0x0f, b[size : size+int(n)], true, nil
}
