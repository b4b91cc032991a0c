package lan

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/peerservers/peerserver/protocol"
)

// writeWithin is how long the other side may take to read a message.
const writeWithin = 10 * time.Second

// Stream is a connection to another peer of an app. What is said on it is
// sealed for those who know the app; that the other side is who it says is
// shown by what it has signed. One goroutine at a time reads, one writes.
type Stream struct {
	c          net.Conn
	peer       protocol.PeerID
	in, out    cipher.AEAD
	nIn, nOut  uint64
	once       sync.Once
	closeError error
}

// Open greets the other side of a TCP connection. who is whom a dialler wants
// to reach, nil on the side that has accepted: the one with the lower key
// dials; they are equal when one identity is on two devices. When it fails, c
// is closed.
func Open(ctx context.Context, c net.Conn, app protocol.AppID, self protocol.PeerID, who *protocol.PeerID) (*Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, protocol.LANHelloTime)
	defer cancel()
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		c.Close()
	})
	s := &Stream{c: c}
	err := s.greet(app, self, who)
	if !stop() {
		<-closed
		return nil, context.Cause(ctx)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return s, nil
}

func (s *Stream) greet(app protocol.AppID, self protocol.PeerID, who *protocol.PeerID) error {
	var nonce [protocol.LANNonce]byte
	rand.Read(nonce[:])
	ours, theirs := protocol.NewLANHello(app, self, nonce), new(protocol.LANHello)
	b, err := proto.Marshal(ours)
	if err != nil {
		return err
	}
	if err := s.writeFrame(b); err != nil {
		return err
	}
	if b, err = s.readFrame(protocol.MaxLANHello); err != nil {
		return err
	}
	if proto.Unmarshal(b, theirs) != nil {
		return protocol.Errorf(protocol.CodeMalformed, "LAN: the first message is no hello")
	}
	if s.peer, err = theirs.Verify(app); err != nil {
		return err
	}
	order := bytes.Compare(self[:], s.peer[:])
	if (who != nil && (order > 0 || s.peer != *who)) || (who == nil && order < 0) {
		return protocol.Errorf(protocol.CodeDenied, "LAN: it is not the other side that was meant")
	}
	if s.out, err = aead(app, ours, theirs); err != nil {
		return err
	}
	s.in, err = aead(app, theirs, ours)
	return err
}

func aead(app protocol.AppID, from, to *protocol.LANHello) (cipher.AEAD, error) {
	key, err := protocol.LANKey(app, from, to)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// Peer is who the other side says it is.
func (s *Stream) Peer() protocol.PeerID { return s.peer }

// Read waits for the next Control, until Close. The first error is the last.
func (s *Stream) Read() (*protocol.Control, error) {
	b, err := s.readFrame(protocol.MaxLANMessage)
	if err != nil {
		return nil, err
	}
	plain, err := s.in.Open(b[:0], number(&s.nIn), b, nil)
	if err != nil {
		return nil, protocol.Errorf(protocol.CodeSignature, "LAN: a message does not open")
	}
	m := new(protocol.Control)
	if proto.Unmarshal(plain, m) != nil {
		return nil, protocol.Errorf(protocol.CodeMalformed, "LAN: a message does not parse")
	}
	return m, nil
}

// Write sends a Control. The first error is the last, but for CodeTooLarge.
func (s *Stream) Write(m *protocol.Control) error {
	plain, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	if len(plain)+s.out.Overhead() > protocol.MaxLANMessage {
		return protocol.Errorf(protocol.CodeTooLarge, "LAN: a message of %d bytes", len(plain))
	}
	if err := s.c.SetWriteDeadline(time.Now().Add(writeWithin)); err != nil {
		return err
	}
	return s.writeFrame(s.out.Seal(nil, number(&s.nOut), plain, nil))
}

// Close ends the connection. It may be called more than once, by anybody.
func (s *Stream) Close() error {
	s.once.Do(func() { s.closeError = s.c.Close() })
	return s.closeError
}

// number counts messages; each number is the nonce of one.
func number(n *uint64) []byte {
	b := make([]byte, 12)
	binary.BigEndian.PutUint64(b[4:], *n)
	*n++
	return b
}

func (s *Stream) writeFrame(b []byte) error {
	framed := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(b)), uint32(len(b)))
	_, err := s.c.Write(append(framed, b...))
	return err
}

// readFrame reads a message of at most so many bytes.
func (s *Stream) readFrame(most int) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(s.c, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n > uint32(most) {
		return nil, protocol.Errorf(protocol.CodeTooLarge, "LAN: a message of %d bytes is over %d", n, most)
	}
	b := make([]byte, n)
	_, err := io.ReadFull(s.c, b)
	return b, err
}
