package dhtstore

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"expvar"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anacrolix/dht/v2"
	"github.com/anacrolix/dht/v2/bep44"
	"github.com/anacrolix/dht/v2/exts/getput"
	"github.com/anacrolix/log"
)

// TestRow9: what one server sends is not what another may not.
func TestRow9(t *testing.T) {
	pings := func(h *hub, to netip.AddrPort) (answered int) {
		var all []*probe
		for range 60 {
			p := &probe{h: h, conn: h.listen(netip.AddrPort{}), to: to}
			h.inject(p.conn.addr, to, p.query("ping", nil))
			all = append(all, p)
			synctest.Wait()
		}
		for _, p := range all {
			answered += min(1, len(p.conn.in))
		}
		return answered
	}
	t.Run("library", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newHub()
			both := func(c *dht.ServerConfig) { c.SendLimiter = dht.NewDefaultServerConfig().SendLimiter }
			libraryServer(t, h, both).Ping(&net.UDPAddr{IP: net.IPv4(10, 9, 9, 9), Port: 1})
			if n := pings(h, libraryServer(t, h, both).addr); n > 25 {
				t.Errorf("%d of 60 pings answered", n)
			}
		})
	})
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		slow := runServer(t, serverConfig{Conn: h.listen(netip.AddrPort{}), Private: true, Budget: 0.001})
		other := startServer(t, h)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if _, err := slow.ping(ctx, other.addr); err != nil {
			t.Error(err)
		}
		if _, err := slow.ping(ctx, other.addr); err == nil {
			t.Error("the budget is not spent")
		}
		if n := pings(h, slow.addr); n != 60 {
			t.Errorf("with its budget spent it answers %d of 60 pings", n)
		}
		if _, err := other.ping(t.Context(), slow.addr); err != nil {
			t.Errorf("the other server: %v", err)
		}
	})
}

// TestRow10 is TestStoresAreBounded, but for this: what has expired goes
// without being read.
func TestRow10(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		s := startServer(t, h)
		p := newProbe(h, s)
		if code := p.put(t, testItem(1, 1), nil); code != 0 {
			t.Fatalf("put: %d", code)
		}
		infohash := [20]byte{9}
		p.exchange(t, p.query("announce_peer", map[string]any{"info_hash": infohash[:], "port": 1, "token": p.token(t, infohash)}))
		time.Sleep(time.Minute)
		if st := s.stats(); st.Items != 1 || st.Infohashes != 1 {
			t.Errorf("stored %d items, %d infohashes", st.Items, st.Infohashes)
		}
		time.Sleep(itemTTL + time.Minute)
		if st := s.stats(); st.Items != 0 || st.Infohashes != 0 {
			t.Errorf("after hours there are %d items, %d infohashes", st.Items, st.Infohashes)
		}
	})
}

// TestRow11: an item lives as long after a put as it is said to, and its expiry
// is not lost when it is put again.
func TestRow11(t *testing.T) {
	t.Run("library", func(t *testing.T) {
		it, err := bep44.NewItem("v", nil, 1, 0, testKey(1))
		if err != nil {
			t.Fatal(err)
		}
		restored := bep44.NewMemory() // as one read from disk: without its time
		if err := restored.Put(it); err != nil {
			t.Fatal(err)
		}
		if _, err := bep44.NewWrapper(restored, time.Hour).Get(it.Target()); !errors.Is(err, bep44.ErrItemNotFound) {
			t.Errorf("got %v", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		p := newProbe(h, startServer(t, h))
		it := testItem(1, 1)
		target := it.target()
		held := func() bool {
			r, _ := p.exchange(t, p.query("get", map[string]any{"target": target[:]}))
			return r["v"] != nil
		}
		for range 2 { // the second is a refresh with the same seq
			if code := p.put(t, it, nil); code != 0 {
				t.Fatalf("put: %d", code)
			}
			time.Sleep(itemTTL - time.Second)
			if !held() {
				t.Error("the item is gone too early")
			}
		}
		time.Sleep(time.Second)
		if held() {
			t.Error("the item does not expire")
		}
	})
}

// TestRow12: an error of the socket is a moment's.
func TestRow12(t *testing.T) {
	t.Run("library", func(t *testing.T) { dies(t, "socket") })
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		conn := &failingConn{PacketConn: h.listen(netip.AddrPort{})}
		newProbe(h, runServer(t, serverConfig{Conn: conn, Private: true})).stillAnswers(t)
		if n := conn.failures.Load(); n < 5 {
			t.Errorf("the socket failed %d times", n)
		}
	})
}

// TestRow12Lost: a socket that somebody else closes is an error of serve.
func TestRow12Lost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := newHub().listen(netip.AddrPort{})
		s, err := newServer(serverConfig{Conn: conn})
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Second, func() { _ = conn.Close() })
		if err := s.serve(t.Context()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v", err)
		}
	})
}

// TestRow13: packets of others do not get into our log.
func TestRow13(t *testing.T) {
	t.Parallel() // it waits for other processes
	if out := inProcess(t, "log library"); !bytes.Contains(out, []byte("bad krpc message")) {
		t.Errorf("library: %s", out)
	}
	if out := inProcess(t, "log ours"); bytes.Contains(out, []byte("krpc")) || !bytes.Contains(out, []byte("PASS")) {
		t.Errorf("ours: %s", out)
	}
}

// TestRow14: a node that does not answer is not asked again soon, although
// others go on to name it.
func TestRow14(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		dead := newFake(h, func(q *query) []byte { return replyBytes(q, map[string]any{"token": "t"}) })
		defer dead.stop()
		gossip := newFake(h, func(q *query) []byte {
			return replyBytes(q, map[string]any{"nodes": appendAddr(dead.id[:], dead.addr), "token": "t"})
		})
		defer gossip.stop()
		var down atomic.Bool
		var asked atomic.Int64
		h.setLose(func(_, to netip.AddrPort, _ []byte) bool {
			if to == dead.addr {
				asked.Add(1)
			}
			return to == dead.addr && down.Load()
		})
		down.Store(true)

		lib := libraryServer(t, h, nil)
		if err := lib.AddNode(libNode(node{gossip.id, gossip.addr})); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			if _, err := lib.Bootstrap(); err != nil {
				t.Fatal(err)
			}
		}
		if n := asked.Swap(0); n != 20 {
			t.Errorf("library: asked %d times in 20 walks", n)
		}

		s := startServer(t, h)
		find := func() {
			s.traverse(t.Context(), walk{seeds: []netip.AddrPort{gossip.addr}, do: func(ctx context.Context, addr netip.AddrPort) (*reply, error) {
				return s.get(ctx, addr, [20]byte{}, 0)
			}})
		}
		for start := time.Now(); time.Since(start) < time.Hour; time.Sleep(time.Second) {
			find()
		}
		// After 0 and 10 s, 1, 5 and then every 15 minutes; by a walk, or two at once.
		if n := asked.Swap(0); n < 5 || n > 20 {
			t.Errorf("asked %d times in an hour", n)
		}
		down.Store(false)
		if _, err := s.ping(t.Context(), dead.addr); err != nil {
			t.Fatal(err)
		}
		asked.Store(0)
		if find(); asked.Load() == 0 {
			t.Error("it has answered since, and is not asked")
		}
	})
}

// TestRow15: a walk whose context ends has ended when traverse returns. The
// race detector sees to the rest.
func TestRow15(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		h.setDelay(5 * time.Millisecond)
		nodes := startNet(t, h, 30)
		time.Sleep(time.Minute)
		for i := range 50 {
			var running atomic.Int64
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*time.Millisecond)
			closest, stats := nodes[i%30].traverse(ctx, walk{target: [20]byte{byte(5 * i)}, do: func(ctx context.Context, addr netip.AddrPort) (*reply, error) {
				running.Add(1)
				defer running.Add(-1)
				return nodes[i%30].findNode(ctx, addr, [20]byte{byte(5 * i)})
			}})
			if n := running.Load(); n != 0 || len(closest) > stats.Replies {
				t.Errorf("%d queries run on; %d nodes of %d replies", n, len(closest), stats.Replies)
			}
			cancel()
		}
	})
}

// TestNamesOfMethodsAreNotKept: the library counts queries by name, for ever.
func TestNamesOfMethodsAreNotKept(t *testing.T) {
	counters := func() (n int) {
		expvar.Get("dht").(*expvar.Map).Do(func(expvar.KeyValue) { n++ })
		return n
	}
	send := func(t *testing.T, h *hub, to netip.AddrPort, name string) int {
		before := counters()
		for i := range 15 {
			p := &probe{h: h, conn: h.listen(netip.AddrPort{}), to: to}
			p.exchange(t, p.query(fmt.Sprint(name, i, rand.Text()), nil))
		}
		synctest.Wait()
		return counters() - before
	}
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		send(t, h, startServer(t, h).addr, "") // what is counted by names that are known
		if n := send(t, h, libraryServer(t, h, nil).addr, "a"); n < 15 {
			t.Errorf("library: %d counters more", n)
		}
		if n := send(t, h, startServer(t, h).addr, "b"); n != 0 {
			t.Errorf("%d counters more", n)
		}
	})
}

// TestAlone: the library leaves a goroutine behind for each time it finds no
// node to start with. The bubble would not end with one left.
func TestAlone(t *testing.T) {
	t.Run("library", func(t *testing.T) { dies(t, "bootstrap") })
	synctest.Test(t, func(t *testing.T) {
		startServer(t, newHub())
		time.Sleep(time.Hour)
	})
}

// TestGuessedTransaction: the library counts its transaction ids up, so that
// anybody can answer in the place of the node that was asked.
func TestGuessedTransaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		asked := make(chan []byte, 10) // the transaction ids
		silent := newFake(h, func(q *query) []byte {
			asked <- bytes.Clone(q.t)
			return nil
		})
		defer silent.stop()
		forge := func(t []byte, to netip.AddrPort) {
			q := &query{packet: packet{t: t}, id: silent.id}
			h.inject(silent.addr, to, replyBytes(q, nil))
		}
		next := func(seen []byte, n uint64) []byte { // what one who has seen one query knows of others
			i, _ := binary.Uvarint(seen)
			return binary.AppendUvarint(nil, i+n)
		}
		lib := libraryServer(t, h, nil)
		lib.Ping(net.UDPAddrFromAddrPort(silent.addr))
		seen := <-asked
		time.AfterFunc(time.Second, func() { forge(next(seen, 1), lib.addr) })
		if res := lib.Ping(net.UDPAddrFromAddrPort(silent.addr)); res.Err != nil {
			t.Errorf("library: %v; first transaction %q, then %q", res.Err, seen, <-asked)
		}
		<-asked

		s := startServer(t, h)
		_, _ = s.ping(t.Context(), silent.addr)
		seen = <-asked
		time.AfterFunc(resendDelay/2, func() {
			for n := range uint64(10) {
				forge(append(bytes.Clone(seen[:macSize]), next(seen[macSize:], n)...), s.addr)
				forge(next(seen[macSize:], n), s.addr)
			}
		})
		if r, err := s.ping(t.Context(), silent.addr); err == nil {
			t.Errorf("a forged answer is taken: %v", r)
		}
		if n := s.stats().Unasked; n < 10 {
			t.Errorf("%d forged answers were seen", n)
		}
	})
}

// dies runs TestDeath in a process of its own, and wants that to panic.
func dies(t *testing.T, how string) {
	t.Helper()
	if out := inProcess(t, how); !bytes.Contains(out, []byte("panic:")) {
		t.Errorf("the library survives: %s", out)
	}
}

func inProcess(t *testing.T, how string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestDeath$")
	cmd.Env = append(os.Environ(), "DHTSTORE_DEATH="+how)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out
}

// TestDeath does what the library does not survive, or keeps to itself; it runs
// in a process of its own.
func TestDeath(t *testing.T) {
	how := os.Getenv("DHTSTORE_DEATH")
	if how == "" {
		return // in this process there is nothing to see
	}
	h := newHub()
	anybody := netip.MustParseAddrPort("10.9.9.9:1")
	switch how {
	case "announce":
		h.inject(anybody, libraryServer(t, h, nil).addr, []byte("d1:q13:announce_peer1:t2:aa1:y1:qe"))
	case "address":
		h.inject(anybody, libraryServer(t, h, nil).addr, []byte("d2:ip0:1:t2:aa1:y1:re"))
	case "socket":
		libraryOn(t, &failingConn{PacketConn: h.listen(netip.AddrPort{})}, nil)
	case "getput":
		it := testItem(1, 1)
		f := newFake(h, func(q *query) []byte {
			return replyBytes(q, map[string]any{"k": it.Key[:], "sig": it.Sig[:], "v": bencoded(it.V), "token": "t"})
		})
		s := libraryServer(t, h, nil)
		if err := s.AddNode(libNode(node{f.id, f.addr})); err != nil {
			t.Fatal(err)
		}
		_, _, err := getput.Get(t.Context(), it.target(), s.Server, nil, it.Salt)
		t.Log(err)
	case "bootstrap":
		s, before := libraryServer(t, h, nil), runtime.NumGoroutine()
		for range 10 {
			_, _ = s.Bootstrap()
		}
		time.Sleep(time.Second)
		if n := runtime.NumGoroutine(); n >= before+10 {
			panic("10 goroutines are left")
		}
	case "log library":
		s := libraryServer(t, h, func(c *dht.ServerConfig) { c.Logger = log.Default })
		h.inject(anybody, s.addr, []byte("d1:t2:aa1:yi5ee"))
	case "log ours":
		s := startServer(t, h)
		h.inject(anybody, s.addr, []byte("d1:t2:aa1:yi5ee"))
		newProbe(h, s).stillAnswers(t)
	}
	time.Sleep(time.Second)
}

// failingConn fails to read a few times, as a socket does when an ICMP message
// comes in.
type failingConn struct {
	net.PacketConn
	failures atomic.Int64
}

var errICMP = errors.New("read: connection refused")

func (c *failingConn) ReadFrom(b []byte) (int, net.Addr, error) {
	if c.failures.Add(1) <= 5 {
		return 0, nil, errICMP
	}
	return c.PacketConn.ReadFrom(b)
}
