package dhtstore

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// allQueries is one query of each kind, with all its arguments.
func allQueries(p *probe, token string) [][]byte {
	it := testItem(1, 5)
	target := it.target()
	want := bencoded("l2:n42:n6e")
	return [][]byte{
		p.query("ping", nil),
		p.query("find_node", map[string]any{"target": target[:], "want": want}),
		p.query("get_peers", map[string]any{"info_hash": target[:], "want": want, "noseed": 1, "scrape": 1}),
		p.query("announce_peer", map[string]any{"info_hash": target[:], "port": 6881, "implied_port": 0, "token": token}),
		p.query("get", map[string]any{"target": target[:], "seq": 3}),
		p.query("put", map[string]any{
			"k": it.Key[:], "salt": it.Salt, "seq": it.Seq, "cas": 4, "sig": it.Sig[:], "v": bencoded(it.V), "token": token,
		}),
		p.query("put", map[string]any{"v": bencoded("d1:ali1ee1:b0:e"), "token": token}),
		p.query("ps_record", map[string]any{"v": string(make([]byte, recordPadding))}),
		p.query("sample_infohashes", map[string]any{"target": target[:]}),
	}
}

// allAnswers is one of each kind, with all that may be in it, to a query.
func allAnswers(q *query) [][]byte {
	it := testItem(1, 5)
	id := [20]byte{'x'}
	var nodes, nodes6 []byte
	for i := range 3 {
		nodes = appendAddr(append(nodes, id[:]...), testAddr(i))
		nodes6 = appendAddr(append(nodes6, id[:]...), netip.MustParseAddrPort("[2a00::1]:6881"))
	}
	outside := func(kind string, body []byte) []byte {
		b := appendEntry([]byte{'d'}, "ip", appendAddr(nil, testAddr(9)))
		b = appendRaw(b, kind, body)
		b = appendEntry(b, "t", q.t)
		return append(appendEntry(appendEntry(b, "v", "LT12"), "y", kind), 'e')
	}
	return [][]byte{
		outside("r", dict(map[string]any{"id": id[:]})),
		outside("r", dict(map[string]any{"id": id[:], "nodes": nodes, "nodes6": nodes6, "token": "token"})),
		outside("r", dict(map[string]any{"id": id[:], "values": bencoded("l6:abcdef6:ghijkle"), "token": "token"})),
		outside("r", dict(map[string]any{
			"id": id[:], "k": it.Key[:], "seq": it.Seq, "sig": it.Sig[:], "v": bencoded(it.V), "nodes": nodes, "token": "token",
		})),
		outside("e", []byte("li203e5:helloe")),
	}
}

// mutations is how many a packet has: it is cut at every byte, and every byte
// is flipped in three ways.
func mutations(b []byte) int { return 4 * len(b) }

// mutation is the i-th of them.
func mutation(b []byte, i int) []byte {
	at, how := i/4, i%4
	if how == 0 {
		return b[:at]
	}
	flipped := bytes.Clone(b)
	flipped[at] ^= []byte{1: 0xff, 2: 0x01, 3: 0x10}[how]
	return flipped
}

// TestMutatedQueries: nothing that is nearly a query does harm.
func TestMutatedQueries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		s := startServer(t, h)
		p := newProbe(h, s)
		n := 0
		for _, query := range allQueries(p, p.token(t, [20]byte{})) {
			for i := range mutations(query) {
				n++
				h.inject(netip.AddrPortFrom(p.conn.addr.Addr(), uint16(n%65535+1)), s.addr, mutation(query, i))
				synctest.Wait()
			}
		}
		st := s.stats()
		if n < 5000 || int(st.Answered) < n/4 || int(st.Malformed) < n/4 || int(st.Answered+st.Malformed+st.Limited+st.Unasked) < n {
			t.Errorf("of %d packets: %+v", n, st)
		}
		p.stillAnswers(t)
	})
}

// TestMutatedAnswers: nothing that is nearly an answer does harm, and what is
// taken of one can be used.
func TestMutatedAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		s := startServer(t, h)
		blank := []byte("-blank-")
		for kind, whole := range allAnswers(&query{packet: packet{t: blank}}) {
			var next atomic.Int64
			size := mutations(whole)
			f := newFake(h, func(q *query) []byte {
				if q.target != [20]byte{1} {
					return nil // not the question below
				}
				answer := bytes.Replace(whole, appendString(nil, blank), appendString(nil, q.t), 1)
				return mutation(answer, min(int(next.Load()), mutations(answer)-1))
			})
			taken := 0
			for ; int(next.Load()) < size; next.Add(1) {
				r, err := s.get(t.Context(), f.addr, [20]byte{1}, 0)
				if err != nil {
					continue
				}
				taken++
				for _, n := range r.Nodes {
					if !usable(n.Addr) {
						t.Errorf("answer %d, mutation %d names %v", kind, next.Load(), n)
					}
				}
				if r.Item != nil && measure(r.Item.V, maxDepth) != len(r.Item.V) {
					t.Errorf("answer %d, mutation %d has the item %q", kind, next.Load(), r.Item.V)
				}
			}
			if kind < 4 && (taken == 0 || taken == size) {
				t.Errorf("answer %d: %d of %d mutations taken", kind, taken, size)
			}
			f.stop()
		}
		newProbe(h, s).stillAnswers(t)
	})
}

// nowhere is a socket whose packets are lost.
type nowhere struct{ net.PacketConn }

func (nowhere) LocalAddr() net.Addr                       { return &net.UDPAddr{IP: net.IPv6unspecified, Port: 1} }
func (nowhere) WriteTo(b []byte, _ net.Addr) (int, error) { return len(b), nil }
func (nowhere) ReadFrom(b []byte) (int, net.Addr, error)  { select {} }
func (nowhere) Close() error                              { return nil }

// FuzzPacket hands a server any bytes, from addresses of both families; and as
// an answer to what it has asked, what is one but for its transaction id.
func FuzzPacket(f *testing.F) {
	s, err := newServer(serverConfig{Conn: nowhere{}})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		for _, family := range s.families {
			family.lib.Load().Close()
		}
	})
	p := &probe{}
	token := string(s.responder.tokens.issue(netip.MustParseAddr("127.0.0.1"), time.Now()))
	for _, b := range append(allQueries(p, token), allAnswers(&query{packet: packet{t: []byte("abcdef")}})...) {
		f.Add(b)
	}
	port := uint16(0)
	f.Fuzz(func(t *testing.T, b []byte) {
		port = max(1, port+1) // else the limits would keep all out
		for _, ip := range []string{"127.0.0.1", "::1"} {
			from := netip.AddrPortFrom(netip.MustParseAddr(ip), port)
			s.receive(b, net.UDPAddrFromAddrPort(from))
			select {
			case q := <-s.responder.queue:
				s.responder.handle(q, time.Now())
			default:
			}
			answer, ok := parsePacket(b)
			if !ok || answer.kind == 'q' {
				continue
			}
			family := s.family(from.Addr().Is6())
			transaction := binary.BigEndian.AppendUint16(nil, port)
			answer.t = append(family.mac.of(transaction, from), transaction...)
			family.answered(answer, from) // the library gets it, on its goroutine
			if clean, ok := answer.cleanReply(transaction, family.v6, anywhere); ok {
				checkClean(t, clean, family.v6)
			}
		}
	})
}

// checkClean wants of an answer what the library needs to read it: all it has
// is of the type and size that the library expects.
func checkClean(t *testing.T, b []byte, v6 bool) {
	p, ok := parsePacket(b)
	if !ok || !canonical(b) || measure(b, maxDepth) != len(b) {
		t.Fatalf("not clean: %q", b)
	}
	if p.kind == 'e' {
		items := 0
		for item := range itemsOf(p.args) {
			_, isInt := intOf(item)
			_, isString := stringOf(item)
			if items++; items == 1 && !isInt || items == 2 && !isString {
				t.Errorf("error %q", p.args)
			}
		}
		if items != 2 {
			t.Errorf("error %q", p.args)
		}
		return
	}
	fields := map[string]int{"id": 20, "k": 32, "sig": 64, "token": -1, "nodes": -26, "nodes6": -38}
	for key, value := range entriesOf(p.args) {
		s, isString := stringOf(value)
		_, isInt := intOf(value)
		size, isBytes := fields[key]
		switch {
		case isBytes && (!isString || size > 0 && len(s) != size || size < 0 && len(s)%-size != 0):
			t.Errorf("%s: %q", key, value)
		case key == "seq" && !isInt, key == "values" && value[0] != 'l', !isBytes && key != "seq" && key != "values" && key != "v":
			t.Errorf("%s: %q", key, value)
		case key == "values":
			for item := range itemsOf(value) {
				if a, _ := stringOf(item); len(a) != addrLen(v6)+2 {
					t.Errorf("values: %q", value)
				}
			}
		}
	}
}
