package relay

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/flynn/noise"
	"google.golang.org/protobuf/proto"

	"github.com/peerservers/peerserver/protocol"
)

// identity is what a node proves itself with: its ed25519 key and the Noise
// static key that it signs with it, made anew at each start.
type identity struct {
	node   protocol.NodeID
	static noise.DHKey
	proof  [2][]byte // the signature over static, by role
}

func newIdentity(key ed25519.PrivateKey) (*identity, error) {
	if len(key) != ed25519.PrivateKeySize {
		return nil, errors.New("a node's key has to be an ed25519 private key of 64 bytes")
	}
	static, err := linkSuite().GenerateKeypair(rand.Reader)
	if err != nil {
		return nil, err
	}
	id := &identity{node: protocol.NodeID(key.Public().(ed25519.PublicKey)), static: static}
	for _, role := range []protocol.Role{protocol.Dialler, protocol.Responder} {
		id.proof[role] = ed25519.Sign(key, helloBytes(role, static.Public))
	}
	return id, nil
}

// linkSuite and Noise XX are the whole of Noise_XX_25519_AESGCM_SHA256.
func linkSuite() noise.CipherSuite {
	return noise.NewCipherSuite(noise.DH25519, noise.CipherAESGCM, noise.HashSHA256)
}

// helloBytes is what the signature of a Hello is over. The role is in it, so
// that a node's words as responder are never good as dialler.
func helloBytes(role protocol.Role, static []byte) []byte {
	return append(append([]byte("peerserver/1/hello"), byte(role)), static...)
}

// greeting is what the other side said in its Hello, verified.
type greeting struct {
	node   protocol.NodeID
	record *protocol.Record // nil when there is none, or it has expired
	url    string           // what the dialler dialled, as LinkURL.String; on the responder's side only, "" when it is none
}

// readLimiter is a Conn whose messages can be bounded further, so that a
// stranger cannot make it buffer more than a Hello.
type readLimiter interface {
	limitRead(n int)
}

// handshake runs Noise XX in the role. own may be nil; url is what was dialled
// and only the dialler's. It closes nothing, except that it closes c when ctx
// ends or protocol.Handshake has passed before it is done. What the other side
// did wrong comes back as a *protocol.Error: CodeVersion asks for close code
// protocol.CloseVersion, every other one for protocol.CloseMalformed.
func handshake(ctx context.Context, c Conn, role protocol.Role, id *identity, own *protocol.SignedRecord, url string) (*secureConn, *greeting, error) {
	ctx, cancel := context.WithTimeout(ctx, protocol.Handshake)
	defer cancel()
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		c.Close(closeGoingAway)
	})
	if l, ok := c.(readLimiter); ok {
		l.limitRead(protocol.MaxHello)
		defer l.limitRead(protocol.MaxNoise)
	}
	s, g, err := shakeHands(c, role, id, own, url)
	if !stop() {
		<-closed
		return nil, nil, fmt.Errorf("handshake: %w", context.Cause(ctx))
	}
	if err != nil {
		return nil, nil, fmt.Errorf("handshake: %w", err)
	}
	if p, ok := c.(interface{ proved() }); ok {
		p.proved()
	}
	return s, g, nil
}

// shakeHands sends and reads the three messages of XX. The payloads are empty,
// the responder's Hello and the dialler's Hello: each side has proved its
// Noise static key by the time its Hello is read.
func shakeHands(c Conn, role protocol.Role, id *identity, own *protocol.SignedRecord, url string) (*secureConn, *greeting, error) {
	hs, err := noise.NewHandshakeState(noise.Config{
		CipherSuite: linkSuite(), Pattern: noise.HandshakeXX, Initiator: role == protocol.Dialler,
		Prologue: []byte(protocol.NoisePrologue), StaticKeypair: id.static,
	})
	if err != nil {
		return nil, nil, err
	}
	hello, err := id.hello(role, own, url)
	if err != nil {
		return nil, nil, err
	}
	if role == protocol.Dialler {
		return dialShake(c, hs, id, hello)
	}
	return respondShake(c, hs, id, hello)
}

func dialShake(c Conn, hs *noise.HandshakeState, id *identity, hello []byte) (*secureConn, *greeting, error) {
	if _, _, err := writeShake(c, hs, nil); err != nil {
		return nil, nil, err
	}
	payload, _, _, err := readShake(c, hs)
	if err != nil {
		return nil, nil, err
	}
	g, err := readHello(payload, hs.PeerStatic(), protocol.Responder, id.node)
	if err != nil {
		return nil, nil, err
	}
	send, recv, err := writeShake(c, hs, hello)
	if err != nil {
		return nil, nil, err
	}
	return newSecureConn(c, hs, protocol.Dialler, send, recv), g, nil
}

func respondShake(c Conn, hs *noise.HandshakeState, id *identity, hello []byte) (*secureConn, *greeting, error) {
	if _, _, _, err := readShake(c, hs); err != nil {
		return nil, nil, err
	}
	if _, _, err := writeShake(c, hs, hello); err != nil {
		return nil, nil, err
	}
	payload, recv, send, err := readShake(c, hs)
	if err != nil {
		return nil, nil, err
	}
	g, err := readHello(payload, hs.PeerStatic(), protocol.Dialler, id.node)
	if err != nil {
		return nil, nil, err
	}
	return newSecureConn(c, hs, protocol.Responder, send, recv), g, nil
}

// writeShake returns the two directions, dialler's first, after the last message.
func writeShake(c Conn, hs *noise.HandshakeState, payload []byte) (first, second *noise.CipherState, err error) {
	message, first, second, err := hs.WriteMessage(nil, payload)
	if err != nil {
		return nil, nil, protocol.Errorf(protocol.CodeMalformed, "the other node's key is none")
	}
	return first, second, c.Write(message)
}

func readShake(c Conn, hs *noise.HandshakeState) (payload []byte, first, second *noise.CipherState, err error) {
	message, err := c.Read()
	if err != nil {
		if closeCode(err) == protocol.CloseVersion {
			err = protocol.Errorf(protocol.CodeVersion, "the other node says that it speaks another version")
		}
		return nil, nil, nil, err
	}
	if len(message) > protocol.MaxHello {
		return nil, nil, nil, protocol.Errorf(protocol.CodeTooLarge, "a message of %d bytes is over %d", len(message), protocol.MaxHello)
	}
	payload, first, second, err = hs.ReadMessage(nil, message)
	if err != nil {
		return nil, nil, nil, protocol.Errorf(protocol.CodeMalformed, "the message is not of a Noise handshake with us")
	}
	return payload, first, second, nil
}

// hello is the payload by which id makes itself known.
func (id *identity) hello(role protocol.Role, own *protocol.SignedRecord, url string) ([]byte, error) {
	if len(url) > protocol.MaxURL {
		return nil, protocol.Errorf(protocol.CodeTooLarge, "a URL of %d bytes is over %d", len(url), protocol.MaxURL)
	}
	h := &protocol.Hello{Version: protocol.Version, Key: id.node[:], Signature: id.proof[role], Record: own}
	if role == protocol.Dialler {
		h.Url = url
	}
	return proto.Marshal(h)
}

// readHello verifies what the other side says of itself. static is the Noise
// key that the handshake has proved, self our own node.
func readHello(payload, static []byte, role protocol.Role, self protocol.NodeID) (*greeting, error) {
	var h protocol.Hello
	if err := proto.Unmarshal(payload, &h); err != nil {
		return nil, protocol.Errorf(protocol.CodeMalformed, "the Hello does not parse")
	}
	switch {
	case h.Version != protocol.Version: // first: nothing else of another version is known to mean the same
		return nil, protocol.Errorf(protocol.CodeVersion, "the other node speaks version %d, this program %d", h.Version, protocol.Version)
	case len(h.Key) != len(self) || len(h.Url) > protocol.MaxURL:
		return nil, protocol.Errorf(protocol.CodeMalformed, "the Hello's fields are not of their size")
	case !ed25519.Verify(h.Key, helloBytes(role, static), h.Signature):
		return nil, protocol.Errorf(protocol.CodeSignature, "the Hello's signature does not verify")
	case bytes.Equal(h.Key, self[:]):
		return nil, protocol.Errorf(protocol.CodeRefused, "the other node is this one")
	}
	g := &greeting{node: protocol.NodeID(h.Key)}
	if u, err := protocol.ParseLinkURL(h.Url); err == nil && role == protocol.Dialler {
		g.url = u.String()
	}
	var err error
	g.record, err = readRecord(h.Record, g.node)
	return g, err
}

// readRecord is nil for a record that is no longer or not yet valid: clocks
// are wrong and nodes are restarted, and the link works without it.
func readRecord(signed *protocol.SignedRecord, node protocol.NodeID) (*protocol.Record, error) {
	if signed == nil {
		return nil, nil
	}
	record, err := signed.Verify(node, time.Now())
	if e, ok := errors.AsType[*protocol.Error](err); ok && e.Code == protocol.CodeStale {
		return nil, nil
	}
	return record, err
}

// secureConn carries packets over a Conn, encrypted. One goroutine reads, one
// writes.
type secureConn struct {
	hash []byte // of the handshake, the same on both sides and never twice
	role protocol.Role
	conn Conn
	send *noise.CipherState // Owned by the writer.
	recv *noise.CipherState // Owned by the reader.
}

func newSecureConn(c Conn, hs *noise.HandshakeState, role protocol.Role, send, recv *noise.CipherState) *secureConn {
	return &secureConn{hash: bytes.Clone(hs.ChannelBinding()), role: role, conn: c, send: send, recv: recv}
}

// sealed holds the buffers that packets are encrypted into: a link that is
// idle has none.
var sealed = sync.Pool{New: func() any { return new([protocol.MaxNoise]byte) }}

// readPacket is the next packet, valid until the next call. Any error is the
// link's last: a message that does not decrypt was changed, lost or replayed.
func (s *secureConn) readPacket() ([]byte, error) {
	message, err := s.conn.Read()
	if err != nil {
		return nil, err
	}
	plain, err := s.recv.Decrypt(message[:0], nil, message) // in place: the buffer is ours until the next Read
	if err != nil {
		return nil, protocol.Errorf(protocol.CodeMalformed, "a message does not decrypt")
	}
	return plain, nil
}

// writePacket sends one packet of at most protocol.MaxPacket bytes.
func (s *secureConn) writePacket(plain []byte) error {
	if len(plain) > protocol.MaxPacket {
		return protocol.Errorf(protocol.CodeTooLarge, "a packet of %d bytes is over %d", len(plain), protocol.MaxPacket)
	}
	buf := sealed.Get().(*[protocol.MaxNoise]byte)
	defer sealed.Put(buf)
	message, err := s.send.Encrypt(buf[:0], nil, plain)
	if err != nil {
		return err
	}
	return s.conn.Write(message)
}

func (s *secureConn) close(code int) { s.conn.Close(code) }
