package dhtstore

import (
	"crypto/sha1"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/anacrolix/dht/v2"
	"github.com/anacrolix/log"
	"golang.org/x/time/rate"
)

// foreign is a server of the library's, as it is without us.
type foreign struct {
	*dht.Server
	addr netip.AddrPort
}

func libraryServer(t *testing.T, h *hub, change func(*dht.ServerConfig)) *foreign {
	t.Helper()
	return libraryOn(t, h.listen(netip.AddrPort{}), change)
}

func libraryOn(t *testing.T, conn net.PacketConn, change func(*dht.ServerConfig)) *foreign {
	t.Helper()
	cfg := dht.NewDefaultServerConfig()
	cfg.Conn, cfg.StartingNodes, cfg.SendLimiter = conn, nil, rate.NewLimiter(1000, 1000)
	cfg.Logger = log.NewLogger("dht").FilterLevel(log.Critical)
	if change != nil {
		change(cfg)
	}
	s, err := dht.NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return &foreign{s, conn.LocalAddr().(*net.UDPAddr).AddrPort()}
}

// probe speaks KRPC by hand.
type probe struct {
	h    *hub
	conn *hubConn
	to   netip.AddrPort
	id   [20]byte
	n    int
}

func newProbe(h *hub, s *testServer) *probe {
	return &probe{h: h, conn: h.listen(netip.AddrPort{}), to: s.addr, id: [20]byte{'p', 'r', 'o', 'b', 'e'}}
}

// query writes a query. Arguments are strings, byte strings, ints, or bencoded.
func (p *probe) query(method string, args map[string]any) []byte {
	p.n++
	all := map[string]any{"id": p.id[:]}
	maps.Copy(all, args)
	b := append(appendString([]byte{'d'}, "a"), dict(all)...)
	b = appendEntry(b, "q", method)
	b = appendEntry(b, "t", fmt.Sprintf("t%d", p.n))
	return append(appendEntry(b, "y", "q"), 'e')
}

// exchange sends a packet and reads one, at once or within 2 s. It returns what
// that answers, or its error code, or -1 if there is none.
func (p *probe) exchange(t *testing.T, packet []byte) (r map[string][]byte, code int) {
	t.Helper()
	_, raw := p.raw(packet)
	if raw == nil {
		return nil, -1
	}
	m, ok := parsePacket(raw)
	if !ok || len(raw) > maxReply {
		t.Errorf("not a packet: %q", raw)
		return nil, -1
	}
	if m.kind == 'e' {
		return nil, parseRefusal(m.args).Code
	}
	if m.kind != 'r' || !canonical(raw) {
		t.Errorf("not an answer: %q", raw)
		return nil, -1
	}
	return maps.Collect(entriesOf(m.args)), 0
}

func (p *probe) raw(packet []byte) (from netip.AddrPort, raw []byte) {
	if _, err := p.conn.WriteTo(packet, net.UDPAddrFromAddrPort(p.to)); err != nil {
		return from, nil
	}
	for {
		select {
		case m := <-p.conn.in:
			if parsed, ok := parsePacket(m.bytes); ok && parsed.kind != 'q' {
				return m.from, m.bytes
			}
		case <-time.After(2 * time.Second):
			return from, nil
		}
	}
}

func (p *probe) stillAnswers(t *testing.T) {
	t.Helper()
	other := &probe{h: p.h, conn: p.h.listen(netip.AddrPort{}), to: p.to}
	if r, code := other.exchange(t, other.query("ping", nil)); code != 0 || len(r["id"]) != 23 {
		t.Errorf("ping: got %v, error %d", r, code)
	}
}

// token is a fresh one.
func (p *probe) token(t *testing.T, target [20]byte) string {
	t.Helper()
	r, _ := p.exchange(t, p.query("get", map[string]any{"target": target[:]}))
	token, _ := stringOf(r["token"])
	return string(token)
}

// put stores an item, and returns the error code.
func (p *probe) put(t *testing.T, it *item, cas any) int {
	t.Helper()
	args := map[string]any{
		"k": it.Key[:], "salt": it.Salt, "seq": it.Seq, "sig": it.Sig[:], "v": bencoded(it.V), "token": p.token(t, it.target()),
	}
	if cas != nil {
		args["cas"] = cas
	}
	_, code := p.exchange(t, p.query("put", args))
	return code
}

// fake is a node that answers what it likes.
type fake struct {
	*hubConn
	id   [20]byte
	done chan struct{}
}

func newFake(h *hub, answer func(*query) []byte) *fake {
	return fakeAt(h, netip.AddrPort{}, answer)
}

func fakeAt(h *hub, addr netip.AddrPort, answer func(*query) []byte) *fake {
	f := &fake{hubConn: h.listen(addr), done: make(chan struct{})}
	f.id = sha1.Sum([]byte(f.addr.String()))
	go func() {
		defer close(f.done)
		buf := make([]byte, 4096)
		for {
			n, from, err := f.ReadFrom(buf)
			if err != nil {
				return
			}
			p, ok := parsePacket(buf[:n])
			if !ok || p.kind != 'q' {
				continue
			}
			q := &query{packet: p}
			q.parseArgs()
			q.id = f.id
			if b := answer(q); b != nil {
				_, _ = f.WriteTo(b, from)
			}
		}
	}()
	return f
}

func (f *fake) stop() {
	_ = f.Close()
	<-f.done
}

// replyBytes answers a query; q.id is the answerer's.
func replyBytes(q *query, fields map[string]any) []byte {
	all := map[string]any{"id": q.id[:]}
	maps.Copy(all, fields)
	b := appendRaw([]byte{'d'}, "r", dict(all))
	b = appendEntry(b, "t", q.t)
	return append(appendEntry(b, "y", "r"), 'e')
}

func dict(all map[string]any) []byte {
	b := []byte{'d'}
	for _, key := range slices.Sorted(maps.Keys(all)) {
		b = appendString(b, key)
		switch v := all[key].(type) {
		case string:
			b = appendString(b, v)
		case []byte:
			b = appendString(b, v)
		case bencoded:
			b = append(b, v...)
		case int:
			b = appendInt(b, int64(v))
		case int64:
			b = appendInt(b, v)
		}
	}
	return append(b, 'e')
}
