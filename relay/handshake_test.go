package relay

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flynn/noise"
	"google.golang.org/protobuf/proto"

	"github.com/peerservers/peerserver/protocol"
)

const (
	urlA = "wss://a.example:443"
	urlB = "wss://b.example:443"
)

// newTestKey is the same for the same name, so that a failure repeats itself.
func newTestKey(name string) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	copy(seed, name)
	return ed25519.NewKeyFromSeed(seed)
}

func newTestIdentity(t testing.TB, name string) *identity {
	t.Helper()
	id, err := newIdentity(newTestKey(name))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// newTestRecord is of the node with that name, issued some time ago.
func newTestRecord(t testing.TB, name string, age time.Duration) *protocol.SignedRecord {
	t.Helper()
	r := &protocol.Record{
		Seq: time.Now().Add(-age).UnixMilli(), TTL: protocol.RecordTTL,
		URLs: []string{"wss://" + name + ".example"},
	}
	if err := protocol.SignRecord(newTestKey(name), r); err != nil {
		t.Fatal(err)
	}
	return r.Signed
}

// shaken is how a handshake ended on one side.
type shaken struct {
	conn *secureConn
	said *greeting
	err  error
}

// side plays one side of a handshake.
type side func(c Conn) shaken

func honest(role protocol.Role, id *identity, own *protocol.SignedRecord, url string) side {
	return func(c Conn) (s shaken) {
		s.conn, s.said, s.err = handshake(context.Background(), c, role, id, own, url)
		if s.err != nil {
			c.Close(protocol.CloseMalformed)
		}
		return s
	}
}

// shake lets two sides meet over a network in memory.
func shake(t testing.TB, n *memNet, dial, respond side) (d, r shaken) {
	t.Helper()
	done := make(chan shaken, 1)
	stop := n.listen(urlB, func(c Conn) { done <- respond(c) })
	defer stop()
	u, err := protocol.ParseLinkURL(urlB)
	if err != nil {
		t.Fatal(err)
	}
	c, err := n.dialer(urlA).Dial(context.Background(), u)
	if err != nil {
		t.Fatal(err)
	}
	d = dial(c)
	return d, <-done
}

func code(err error) protocol.Code {
	if e, ok := errors.AsType[*protocol.Error](err); ok {
		return e.Code
	}
	return protocol.CodeOK
}

// forged runs Noise honestly with any static key and says any Hello.
func forged(role protocol.Role, static noise.DHKey, prologue string, hello func() []byte) side {
	return func(c Conn) (s shaken) {
		defer c.Close(1000)
		hs, err := noise.NewHandshakeState(noise.Config{
			CipherSuite: linkSuite(), Pattern: noise.HandshakeXX, Initiator: role == protocol.Dialler,
			Prologue: []byte(prologue), StaticKeypair: static,
		})
		if err != nil {
			return shaken{err: err}
		}
		write := func(payload []byte) {
			if s.err == nil {
				_, _, s.err = writeShake(c, hs, payload)
			}
		}
		read := func() {
			if s.err == nil {
				_, _, _, s.err = readShake(c, hs)
			}
		}
		if role == protocol.Dialler {
			write(nil)
			read()
			write(hello())
		} else {
			read()
			write(hello())
		}
		if s.err == nil {
			_, s.err = c.Read() // until the honest side has judged
		}
		return s
	}
}

func TestHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		defer n.close()
		n.setDelay(50 * time.Millisecond)
		a, b := newTestIdentity(t, "a"), newTestIdentity(t, "b")
		start := time.Now()
		d, r := shake(t, n,
			honest(protocol.Dialler, a, newTestRecord(t, "a", 0), "wss://b.example"),
			honest(protocol.Responder, b, newTestRecord(t, "b", time.Minute), ""))
		if d.err != nil || r.err != nil {
			t.Fatalf("dialler: %v, responder: %v", d.err, r.err)
		}
		if got := time.Since(start); got != 7*50*time.Millisecond {
			t.Errorf("dial, upgrade and handshake took %v, want seven ways", got)
		}
		if d.said.node != b.node || r.said.node != a.node {
			t.Error("the nodes are not each other's")
		}
		if d.said.record == nil || d.said.record.URLs[0] != "wss://b.example" || r.said.record == nil || r.said.record.Node != a.node {
			t.Errorf("records are %v and %v", d.said.record, r.said.record)
		}
		if r.said.url != urlB || d.said.url != "" {
			t.Errorf("dialled URL is %q at the responder, %q at the dialler", r.said.url, d.said.url)
		}
		if len(d.conn.hash) != 32 || !bytes.Equal(d.conn.hash, r.conn.hash) {
			t.Error("handshake hashes differ")
		}
		if d.conn.role != protocol.Dialler || r.conn.role != protocol.Responder {
			t.Error("roles are wrong")
		}
		for _, size := range []int{0, 1, 4096, protocol.MaxPacket} {
			carry(t, d.conn, r.conn, size)
			carry(t, r.conn, d.conn, size)
		}
		if err := d.conn.writePacket(make([]byte, protocol.MaxPacket+1)); code(err) != protocol.CodeTooLarge {
			t.Errorf("a packet too large: %v", err)
		}
		carry(t, d.conn, r.conn, 10) // the refusal has cost no nonce
		d.conn.close(protocol.CloseServiceRestart)
		if _, err := r.conn.readPacket(); closeCode(err) != protocol.CloseServiceRestart {
			t.Errorf("after close: %v", err)
		}
	})
}

func carry(t *testing.T, from, to *secureConn, size int) {
	t.Helper()
	want := bytes.Repeat([]byte{byte(size)}, size)
	if err := from.writePacket(want); err != nil {
		t.Fatal(err)
	}
	got, err := to.readPacket()
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("packet of %d bytes: %d bytes, %v", size, len(got), err)
	}
}

// Every lie is told by the dialler and by the responder.
func TestHandshakeRefuses(t *testing.T) {
	victim, liar := newTestIdentity(t, "victim"), newTestIdentity(t, "liar")
	for _, tt := range []struct {
		name string
		lie  func(h *protocol.Hello, role protocol.Role)
		want protocol.Code
	}{
		{"nothing", func(*protocol.Hello, protocol.Role) {}, protocol.CodeOK},
		{"another version", func(h *protocol.Hello, _ protocol.Role) { h.Version = 2 }, protocol.CodeVersion},
		{"another version and nothing else that is known", func(h *protocol.Hello, _ protocol.Role) {
			h.Reset()
			h.Version = 2
		}, protocol.CodeVersion},
		{"an empty Hello", func(h *protocol.Hello, _ protocol.Role) { h.Reset() }, protocol.CodeVersion},
		{"no key", func(h *protocol.Hello, _ protocol.Role) { h.Key = nil }, protocol.CodeMalformed},
		{"a longer key", func(h *protocol.Hello, _ protocol.Role) { h.Key = append(bytes.Clone(h.Key), 0) }, protocol.CodeMalformed},
		{"no signature", func(h *protocol.Hello, _ protocol.Role) { h.Signature = nil }, protocol.CodeSignature},
		{"the signature of the other role", func(h *protocol.Hello, role protocol.Role) { h.Signature = liar.proof[1-role] }, protocol.CodeSignature},
		{"another node's key", func(h *protocol.Hello, _ protocol.Role) { h.Key = victim.node[:] }, protocol.CodeSignature},
		{"another node's key and signature", func(h *protocol.Hello, role protocol.Role) {
			h.Key, h.Signature = victim.node[:], victim.proof[role]
		}, protocol.CodeSignature},
		{"another node's record", func(h *protocol.Hello, _ protocol.Role) { h.Record = newTestRecord(t, "victim", 0) }, protocol.CodeMalformed},
		{"a record whose signature is broken", func(h *protocol.Hello, _ protocol.Role) {
			h.Record = newTestRecord(t, "liar", 0)
			h.Record.Signature[0] ^= 1
		}, protocol.CodeSignature},
		{"a record that is changed", func(h *protocol.Hello, _ protocol.Role) {
			h.Record = newTestRecord(t, "liar", 0)
			h.Record.Seq++
		}, protocol.CodeSignature},
		{"an empty record", func(h *protocol.Hello, _ protocol.Role) { h.Record = &protocol.SignedRecord{} }, protocol.CodeMalformed},
		{"a URL too long", func(h *protocol.Hello, _ protocol.Role) { h.Url = strings.Repeat("a", protocol.MaxURL+1) }, protocol.CodeMalformed},
		{"a Hello too long", func(h *protocol.Hello, _ protocol.Role) { h.Url = strings.Repeat("a", protocol.MaxHello) }, protocol.CodeTooLarge},
	} {
		for role, name := range []string{"dialler", "responder"} {
			t.Run(tt.name+" by the "+name, func(t *testing.T) {
				role := protocol.Role(role)
				lie := forged(role, liar.static, protocol.NoisePrologue, func() []byte {
					h := &protocol.Hello{Version: protocol.Version, Key: liar.node[:], Signature: liar.proof[role]}
					tt.lie(h, role)
					raw, err := proto.Marshal(h)
					if err != nil {
						t.Error(err)
					}
					return raw
				})
				s := shakeWith(t, role, lie)
				if got := code(s.err); got != tt.want {
					t.Errorf("got %v (%v), want %v", got, s.err, tt.want)
				}
				if (s.err == nil) != (tt.want == protocol.CodeOK) || (s.err == nil) != (s.conn != nil && s.said != nil) {
					t.Errorf("conn %v, greeting %v, error %v", s.conn, s.said, s.err)
				}
			})
		}
	}
}

// shakeWith lets a liar in the role meet an honest node, and returns what that
// made of it.
func shakeWith(t *testing.T, role protocol.Role, lie side) (s shaken) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		defer n.close()
		me := newTestIdentity(t, "honest")
		if role == protocol.Dialler {
			_, s = shake(t, n, lie, honestOnce(protocol.Responder, me))
		} else {
			s, _ = shake(t, n, honestOnce(protocol.Dialler, me), lie)
		}
	})
	return s
}

// honestOnce ends the connection after the handshake.
func honestOnce(role protocol.Role, id *identity) side {
	return func(c Conn) shaken {
		defer c.Close(1000)
		return honest(role, id, nil, urlB)(c)
	}
}

func TestHandshakeWithOneself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		defer n.close()
		me := newTestIdentity(t, "me")
		d, r := shake(t, n, honest(protocol.Dialler, me, nil, urlB), honest(protocol.Responder, me, nil, ""))
		if code(d.err) != protocol.CodeRefused || r.err == nil {
			t.Errorf("dialler: %v, responder: %v", d.err, r.err)
		}
	})
	// The same key with another static key, as after a restart.
	again := newTestIdentity(t, "honest")
	for _, role := range []protocol.Role{protocol.Dialler, protocol.Responder} {
		s := shakeWith(t, role, forged(role, again.static, protocol.NoisePrologue, func() []byte {
			raw, _ := again.hello(role, nil, "")
			return raw
		}))
		if code(s.err) != protocol.CodeRefused {
			t.Errorf("role %d: %v", role, s.err)
		}
	}
}

func TestHandshakeOtherPrologue(t *testing.T) {
	liar := newTestIdentity(t, "liar")
	for _, role := range []protocol.Role{protocol.Dialler, protocol.Responder} {
		s := shakeWith(t, role, forged(role, liar.static, "peerserver/link/2", func() []byte {
			raw, _ := liar.hello(role, nil, "")
			return raw
		}))
		if s.err == nil {
			t.Errorf("role %d: another prologue is accepted", role)
		}
	}
}

// A record that has expired, or comes from a clock that is ahead, costs the
// record and not the link.
func TestHandshakeStaleRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		defer n.close()
		for _, age := range []time.Duration{protocol.RecordTTL + time.Second, -2 * protocol.RecordAhead} {
			d, r := shake(t, n,
				honest(protocol.Dialler, newTestIdentity(t, "a"), newTestRecord(t, "a", age), urlB),
				honest(protocol.Responder, newTestIdentity(t, "b"), newTestRecord(t, "b", age), ""))
			if d.err != nil || r.err != nil {
				t.Fatalf("age %v: dialler: %v, responder: %v", age, d.err, r.err)
			}
			if d.said.record != nil || r.said.record != nil {
				t.Errorf("age %v: a stale record is taken", age)
			}
		}
	})
}

// Who recorded a whole handshake cannot be either side of it again, and no
// message inside a link can be repeated, changed or left out.
func TestHandshakeReplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		defer n.close()
		sent := map[string][][]byte{}
		n.hook(func(from, _ string, _ int, message []byte) action {
			sent[from] = append(sent[from], bytes.Clone(message))
			return pass
		})
		a, b := newTestIdentity(t, "a"), newTestIdentity(t, "b")
		d, r := shake(t, n, honest(protocol.Dialler, a, nil, urlB), honest(protocol.Responder, b, nil, ""))
		if d.err != nil || r.err != nil {
			t.Fatal(d.err, r.err)
		}
		n.hook(nil)
		replay := func(messages [][]byte, first bool) side {
			return func(c Conn) (s shaken) {
				defer c.Close(1000)
				for _, m := range messages {
					if !first {
						if _, s.err = c.Read(); s.err != nil {
							return s
						}
					}
					first = false
					if s.err = c.Write(m); s.err != nil {
						return s
					}
				}
				_, s.err = c.Read()
				return s
			}
		}
		if _, r := shake(t, n, replay(sent[urlA], true), honest(protocol.Responder, b, nil, "")); r.err == nil {
			t.Error("the dialler's messages are good twice")
		}
		if d, _ := shake(t, n, honest(protocol.Dialler, a, nil, urlB), replay(sent[urlB], false)); d.err == nil {
			t.Error("the responder's messages are good twice")
		}
	})
}

func TestSecureConnTampered(t *testing.T) {
	for _, tt := range []struct {
		name  string
		third func(earlier [][]byte, message []byte) // what becomes of the third packet
	}{
		{"changed", func(_ [][]byte, m []byte) { m[0] ^= 1 }},
		{"replayed", func(earlier [][]byte, m []byte) { copy(m, earlier[len(earlier)-1]) }},
		{"reflected", func(earlier [][]byte, m []byte) { copy(m, earlier[0]) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newMemNet()
				defer n.close()
				d, r := shake(t, n,
					honest(protocol.Dialler, newTestIdentity(t, "a"), nil, urlB),
					honest(protocol.Responder, newTestIdentity(t, "b"), nil, ""))
				if d.err != nil || r.err != nil {
					t.Fatal(d.err, r.err)
				}
				var seen [][]byte
				n.hook(func(_, _ string, _ int, m []byte) action {
					if len(seen) == 3 {
						tt.third(seen, m)
					}
					seen = append(seen, bytes.Clone(m))
					return pass
				})
				carry(t, r.conn, d.conn, 10) // for the reflection
				carry(t, d.conn, r.conn, 10)
				carry(t, d.conn, r.conn, 10)
				if err := d.conn.writePacket(make([]byte, 10)); err != nil {
					t.Fatal(err)
				}
				if p, err := r.conn.readPacket(); code(err) != protocol.CodeMalformed || p != nil {
					t.Errorf("got %d bytes, %v", len(p), err)
				}
			})
		})
	}
}

// A stranger who says nothing, or not enough, is left after
// protocol.Handshake, and one whose context ends at once.
func TestHandshakeDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		defer n.close()
		silent := func(c Conn) (s shaken) {
			_, s.err = c.Read()
			for s.err == nil {
				_, s.err = c.Read()
			}
			return s
		}
		me := newTestIdentity(t, "me")
		start := time.Now()
		d, r := shake(t, n, honest(protocol.Dialler, me, nil, urlB), silent)
		if !errors.Is(d.err, context.DeadlineExceeded) || time.Since(start) != protocol.Handshake {
			t.Errorf("dialler ended after %v with %v", time.Since(start), d.err)
		}
		if closeCode(r.err) != closeGoingAway {
			t.Errorf("the silent responder was left with %v", r.err)
		}

		start = time.Now()
		_, r = shake(t, n, silent, honest(protocol.Responder, me, nil, ""))
		if !errors.Is(r.err, context.DeadlineExceeded) || time.Since(start) != protocol.Handshake {
			t.Errorf("responder ended after %v with %v", time.Since(start), r.err)
		}

		start = time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		d, _ = shake(t, n, func(c Conn) (s shaken) {
			s.conn, s.said, s.err = handshake(ctx, c, protocol.Dialler, me, nil, urlB)
			return s
		}, silent)
		if !errors.Is(d.err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("dialler ended after %v with %v", time.Since(start), d.err)
		}
	})
}

// The responder says with its close code that it speaks another version.
func TestHandshakeToldVersion(t *testing.T) {
	s := shakeWith(t, protocol.Responder, func(c Conn) (s shaken) {
		_, s.err = c.Read()
		c.Close(protocol.CloseVersion)
		return s
	})
	if code(s.err) != protocol.CodeVersion {
		t.Error(s.err)
	}
}

// Only the dialler dials a URL, and one that is none counts for nothing.
func TestHandshakeURL(t *testing.T) {
	liar := newTestIdentity(t, "liar")
	for _, role := range []protocol.Role{protocol.Dialler, protocol.Responder} {
		for url, want := range map[string]string{"wss://LIAR.example": "wss://liar.example:443", "anything": ""} {
			if role == protocol.Responder {
				want = ""
			}
			h := &protocol.Hello{Version: protocol.Version, Key: liar.node[:], Signature: liar.proof[role], Url: url}
			raw, err := proto.Marshal(h)
			if err != nil {
				t.Fatal(err)
			}
			s := shakeWith(t, role, forged(role, liar.static, protocol.NoisePrologue, func() []byte { return raw }))
			if s.err != nil || s.said.url != want {
				t.Errorf("role %d, %q: greeting %+v, %v", role, url, s.said, s.err)
			}
		}
	}
	if _, err := liar.hello(protocol.Dialler, nil, strings.Repeat("a", protocol.MaxURL+1)); code(err) != protocol.CodeTooLarge {
		t.Errorf("an own URL too long: %v", err)
	}
}

// The bound on a Hello does not rest on the Conn.
func TestHandshakeUnlimitedConn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		defer n.close()
		long := func(c Conn) (s shaken) {
			defer c.Close(1000)
			s.err = c.Write(make([]byte, protocol.MaxHello+1))
			return s
		}
		plain := func(c Conn) shaken {
			return honestOnce(protocol.Responder, newTestIdentity(t, "me"))(struct{ Conn }{c})
		}
		if _, r := shake(t, n, long, plain); code(r.err) != protocol.CodeTooLarge {
			t.Error(r.err)
		}
	})
}

func TestNewIdentityKey(t *testing.T) {
	if _, err := newIdentity(nil); err == nil {
		t.Error("no key is a key")
	}
}
