package relay

import (
	"bytes"
	"sync/atomic"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/peerservers/peerserver/protocol"
)

// FuzzHandshake has an honest node, in either role, meet one that says
// anything: as its messages (of which the data is cut by length bytes), as the
// Hello inside a sound Noise handshake, or as damage to an honest one's
// messages. It may end in an error or, where the Hello was a true one, in a
// link to the node that it names; never in a panic or in waiting.
func FuzzHandshake(f *testing.F) {
	me, liar := newTestIdentity(f, "me"), newTestIdentity(f, "liar")
	for _, role := range []protocol.Role{protocol.Dialler, protocol.Responder} {
		true1, err := liar.hello(role, newTestRecord(f, "liar", 0), urlB)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(byte(role)|fuzzHello, true1)
		f.Add(byte(role)|fuzzHello, []byte{})
		f.Add(byte(role)|fuzzRaw, bytes.Repeat([]byte{32}, 300))
		f.Add(byte(role)|fuzzRaw, []byte{0})
		f.Add(byte(role)|fuzzDamage, []byte{0, 0, 1})
		f.Add(byte(role)|fuzzDamage, []byte{1, 40, 0x80})
		f.Add(byte(role)|fuzzDamage, []byte{})
	}
	f.Fuzz(func(t *testing.T, how byte, data []byte) {
		role := protocol.Role(how & 1)
		n := newMemNet()
		defer n.close()
		var lie side
		var damaged atomic.Bool
		switch how &^ 1 {
		case fuzzHello:
			lie = forged(role, liar.static, protocol.NoisePrologue, func() []byte { return data })
		case fuzzDamage:
			lie = honestOnce(role, liar)
			n.hook(damage(role, data, &damaged))
		default:
			lie = saying(data)
		}
		var s shaken
		if role == protocol.Dialler {
			_, s = shake(t, n, lie, honestOnce(protocol.Responder, me))
		} else {
			s, _ = shake(t, n, honestOnce(protocol.Dialler, me), lie)
		}
		switch {
		case (s.err == nil) != (s.conn != nil) || (s.err == nil) != (s.said != nil):
			t.Fatalf("conn %v, greeting %v, error %v", s.conn, s.said, s.err)
		case s.err != nil:
			return
		case s.said.node != liar.node:
			t.Fatalf("the link is to %v", s.said.node)
		case how&^1 == fuzzHello:
			var h protocol.Hello
			if err := proto.Unmarshal(data, &h); err != nil || !bytes.Equal(h.Signature, liar.proof[role]) {
				t.Fatalf("a Hello without the signature is taken: %v", err)
			}
		case how&^1 != fuzzDamage:
			t.Fatal("a handshake without keys is taken")
		case damaged.Load():
			t.Fatal("a damaged handshake is taken")
		}
	})
}

const (
	fuzzHello  = 2
	fuzzDamage = 4
	fuzzRaw    = 6
)

// saying sends data as messages, each after a byte that is its length in
// eights, and then goes.
func saying(data []byte) side {
	return func(c Conn) (s shaken) {
		defer c.Close(1000)
		for len(data) > 0 && s.err == nil {
			size := min(int(data[0])*8, len(data)-1)
			s.err = c.Write(data[1 : 1+size])
			data = data[1+size:]
		}
		return s
	}
}

// damage changes the liar's message data[0] at data[1] by data[2], and so on.
func damage(role protocol.Role, data []byte, done *atomic.Bool) func(string, string, int, []byte) action {
	liar := urlA
	if role == protocol.Responder {
		liar = urlB
	}
	return func(from, _ string, i int, m []byte) action {
		whole := bytes.Clone(m)
		for d := data; from == liar && len(d) >= 3; d = d[3:] {
			if int(d[0]) == i && len(m) > 0 {
				m[int(d[1])%len(m)] ^= d[2]
			}
		}
		if !bytes.Equal(whole, m) {
			done.Store(true)
		}
		return pass
	}
}

// FuzzReadHello goes where FuzzHandshake seldom comes: behind the signature.
func FuzzReadHello(f *testing.F) {
	me, liar := newTestIdentity(f, "me"), newTestIdentity(f, "liar")
	record, err := proto.Marshal(newTestRecord(f, "liar", 0))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(record, "wss://a.example")
	f.Add([]byte{}, "")
	f.Fuzz(func(t *testing.T, record []byte, url string) {
		h := &protocol.Hello{Version: protocol.Version, Key: liar.node[:], Signature: liar.proof[protocol.Dialler], Url: url}
		h.Record = new(protocol.SignedRecord)
		if proto.Unmarshal(record, h.Record) != nil {
			h.Record = nil
		}
		payload, err := proto.Marshal(h)
		if err != nil {
			return // not UTF-8
		}
		g, err := readHello(payload, liar.static.Public, protocol.Dialler, me.node)
		if err != nil {
			return
		}
		if g.node != liar.node || (g.record != nil && g.record.Node != liar.node) {
			t.Fatalf("greeting %v", g)
		}
		if u, err := protocol.ParseLinkURL(g.url); g.url != "" && (err != nil || u.String() != g.url) {
			t.Fatalf("URL %q: %v", g.url, err)
		}
	})
}

// FuzzSecureConn has anything arrive on a link that is up.
func FuzzSecureConn(f *testing.F) {
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{1}, 16))
	f.Fuzz(func(t *testing.T, data []byte) {
		n := newMemNet()
		defer n.close()
		d, r := shake(t, n,
			honest(protocol.Dialler, newTestIdentity(t, "a"), nil, urlB),
			honest(protocol.Responder, newTestIdentity(t, "b"), nil, ""))
		if d.err != nil || r.err != nil {
			t.Fatal(d.err, r.err)
		}
		if err := d.conn.conn.Write(data); err != nil && len(data) <= protocol.MaxNoise {
			t.Fatal(err)
		}
		d.conn.close(1000)
		if p, err := r.conn.readPacket(); err == nil {
			t.Fatalf("%d bytes are taken for a packet", len(p))
		}
	})
}
