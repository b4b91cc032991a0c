package dhtstore

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"

	"github.com/peerservers/peerserver/protocol"
)

// Two nodes that are each other's only contact, and are restarted together, find
// each other through what is on their disks. Without that they do not.
func TestRestartTogether(t *testing.T) {
	for name, c := range map[string]struct {
		lose string // the bucket, or all
		down time.Duration
		ok   bool
	}{
		"the disk":                          {"", time.Second, true},
		"the disk, hours later":             {"", 20 * time.Hour, true},
		"only the DHT's table":              {"nodes", time.Second, true},
		"only the nodes found, a day later": {"table4", 20 * time.Hour, true},
		"nothing":                           {"all", time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			dirs := []string{t.TempDir(), t.TempDir()}
			synctest.Test(t, func(t *testing.T) {
				h := newHub()
				h.setDelay(20 * time.Millisecond)
				boot := startNet(t, h, 1)
				open := func() (all []*testStore) {
					for i, dir := range dirs {
						s := openStore(t, h, i, addrs(boot), func(c *Config) { c.Dir = dir })
						s.want(chess)
						all = append(all, s)
					}
					return all
				}
				stores := open()
				stores[0].mustFind(chess, stores[1], time.Minute)
				stores[1].mustFind(chess, stores[0], time.Minute)
				time.Sleep(2 * saveEvery)
				for i, s := range stores {
					s.stop()
					lose(t, dirs[i], c.lose)
				}
				time.Sleep(c.down)
				h.unplug(boot[0].addr)
				boot = nil
				start := time.Now()
				stores = open()
				first, ok := stores[0].finds(chess, stores[1], 2*time.Minute)
				_, ok2 := stores[1].finds(chess, stores[0], 2*time.Minute)
				if ok != c.ok || ok2 != c.ok {
					t.Errorf("found: %v and %v, want %v", ok, ok2, c.ok)
				}
				if c.ok && c.lose != "nodes" && first.Sub(start) > time.Second {
					t.Errorf("found after %v, though on the disk", first.Sub(start))
				}
			})
		})
	}
}

// Who is known from before and does not answer does not keep a node from looking
// for others.
func TestCachedNodeIsGone(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		nodes := startNet(t, h, 4)
		onDisk := func(c *Config) { c.Dir = dir }
		a, b := openStore(t, h, 1, addrs(nodes[:1]), onDisk), openStore(t, h, 2, addrs(nodes[:1]))
		a.want(chess)
		b.want(chess)
		a.mustFind(chess, b, time.Minute)
		a.stop()
		b.stop()
		time.Sleep(time.Hour) // the DHT forgets
		a = openStore(t, h, 1, addrs(nodes[:1]), onDisk)
		time.Sleep(2 * time.Minute)
		w := watch(h, a.addr)
		a.want(chess)
		a.mustFind(chess, b, time.Second) // its record is valid still
		time.Sleep(40 * time.Second)
		if n := len(w.turns("get_peers")); n != 1+len(lookAgain) {
			t.Errorf("looked %d times", n)
		}
	})
}

// lose removes a part of the file.
func lose(t *testing.T, dir, what string) {
	t.Helper()
	path := filepath.Join(dir, diskName)
	switch what {
	case "":
		return
	case "all":
		must(t, os.Remove(path))
		return
	}
	db, err := bbolt.Open(path, 0o600, nil)
	must(t, err)
	must(t, db.Update(func(tx *bbolt.Tx) error {
		if tx.Bucket([]byte(what)) != nil {
			return tx.DeleteBucket([]byte(what))
		}
		return tx.Bucket([]byte(bucketMeta)).Delete([]byte(what))
	}))
	must(t, db.Close())
}

// What is written is read again; what is too old or makes no sense is not.
func TestDisk(t *testing.T) {
	t.Parallel() // it waits for a lock
	dir := t.TempDir()
	now := time.Now()
	record := func(i int, ago time.Duration) *protocol.Record {
		r := &protocol.Record{Seq: now.Add(-ago).UnixMilli(), TTL: protocol.RecordTTL, URLs: []string{"wss://node.example"}}
		must(t, protocol.SignRecord(testKey(i), r))
		return r
	}
	log := slog.New(slog.DiscardHandler)
	c := newCache(true)
	d, k, err := openDisk(dir, nodeID(0), c, log)
	must(t, err)
	if len(k.wanted)+len(k.table)+len(k.proven) > 0 || k.seq != 0 || k.ids != [2][20]byte{} {
		t.Errorf("a new file has %+v", k)
	}
	v4, v6 := netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("[2001:db8::1]:2")
	c.answer(record(1, time.Minute), v4, now)
	c.answer(record(2, time.Minute), v6, now)
	c.see(record(3, time.Minute), now)
	c.answer(record(4, protocol.RecordTTL+time.Hour), v4, now) // expired since
	c.answer(record(5, time.Minute), v4, now.Add(-maxKnownAge-time.Hour))
	for i := range 6 {
		c.serves(nodeID(i), chess, now)
	}
	table := []node{{[20]byte{1}, v4}, {[20]byte{2}, v6}}
	must(t, d.saveTable([][20]byte{{7}, {8}}, table))
	must(t, d.saveSeq(nodeID(0), 1234))
	must(t, d.saveProven([]string{"wss://a:443", "ws://10.0.0.1:8787"}))
	must(t, d.saveCache(c, map[protocol.AppID]bool{chess: true, protocol.MeshApp: true}))
	must(t, d.saveCache(c, map[protocol.AppID]bool{protocol.MeshApp: false}))
	if _, _, err := openDisk(dir, nodeID(0), newCache(true), log); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("opened twice: %v", err)
	}
	must(t, d.close())

	c = newCache(true)
	d, k, err = openDisk(dir, nodeID(0), c, log)
	must(t, err)
	if !slices.Equal(k.table, table) || k.ids != [2][20]byte{{7}, {8}} || k.seq != 1234 ||
		!slices.Equal(k.wanted, []protocol.AppID{chess}) || !slices.Equal(k.proven, []string{"wss://a:443", "ws://10.0.0.1:8787"}) {
		t.Errorf("read %+v", k)
	}
	for i, want := range []struct {
		known, record bool
		addr          netip.AddrPort
	}{1: {true, true, v4}, 2: {true, true, v6}, 3: {false, false, netip.AddrPort{}}, 4: {true, false, v4}, 5: {}} {
		r, addr, _ := c.lookUp(nodeID(i), now)
		if n := c.nodes.get(nodeID(i), now); (n != nil) != want.known || (r != nil) != want.record || addr != want.addr {
			t.Errorf("node %d: %+v, %v, %v", i, n, r, addr)
		}
	}
	if c.see(record(1, 2*time.Minute), now) || c.see(record(4, protocol.RecordTTL+2*time.Hour), now) {
		t.Error("the highest sequence is forgotten")
	}
	if got := c.of(chess, now); !slices.Equal(got, []protocol.NodeID{nodeID(4), nodeID(2), nodeID(1)}) {
		t.Errorf("the app's nodes are %v", got)
	}
	must(t, d.close())
	_, k, err = openDiskOnce(dir, nodeID(9), log)
	if err != nil || k.seq != 0 {
		t.Errorf("another key has the sequence %d, %v", k.seq, err)
	}
}

func openDiskOnce(dir string, self protocol.NodeID, log *slog.Logger) (*cache, kept, error) {
	c := newCache(true)
	d, k, err := openDisk(dir, self, c, log)
	if err == nil {
		err = d.close()
	}
	return c, k, err
}

// A file that is damaged is put aside, and the Store begins anew; it never
// crashes and never believes what does not verify.
func TestDamagedDisk(t *testing.T) {
	t.Parallel() // it waits for the disk
	dir := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	path := filepath.Join(dir, diskName)
	c := newCache(true)
	d, _, err := openDisk(dir, nodeID(0), c, log)
	must(t, err)
	now := time.Now()
	var ids []protocol.NodeID
	for i := range 60 {
		r := &protocol.Record{Seq: now.UnixMilli(), TTL: protocol.RecordTTL, URLs: []string{"wss://node.example"}}
		must(t, protocol.SignRecord(testKey(i), r))
		c.answer(r, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 1), now)
		c.serves(r.Node, numbered(i%20), now)
		ids = append(ids, r.Node)
	}
	must(t, d.saveCache(c, map[protocol.AppID]bool{chess: true}))
	must(t, d.close())
	whole, err := os.ReadFile(path)
	must(t, err)
	damage := map[string][]byte{"empty": {}, "text": []byte(strings.Repeat("not a database ", 10000)), "whole": whole}
	for cut := 1000; cut < len(whole); cut += 5000 {
		damage["cut at "+time.Duration(cut).String()] = whole[:cut]
	}
	flips := 50
	if underRace {
		flips = 20
	}
	for i := range flips {
		b := slices.Clone(whole)
		for at := i * 37; at < len(b); at += 997 + i*13 {
			b[at] ^= byte(1 + i)
		}
		damage["flipped "+time.Duration(i).String()] = b
	}
	for i := range len(whole) / 4096 {
		b := slices.Clone(whole)
		clear(b[i*4096 : (i+1)*4096])
		damage["zero page "+time.Duration(i).String()] = b
	}
	for name, b := range damage {
		must(t, os.WriteFile(path, b, 0o600))
		c, _, err := openDiskOnce(dir, ids[0], log)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if name == "whole" && c.len() != len(ids) {
			t.Errorf("%d nodes of the whole file", c.len())
		}
		for i, id := range ids {
			if r, _, _ := c.lookUp(id, now); r != nil && r.URLs[0] != "wss://node.example" {
				t.Errorf("%s: node %d is at %v", name, i, r.URLs)
			}
		}
	}
}

// Nothing grows without bounds, in memory or on disk.
func TestCacheIsBounded(t *testing.T) {
	dir := t.TempDir()
	c := newCache(true)
	d, _, err := openDisk(dir, nodeID(0), c, slog.New(slog.DiscardHandler))
	must(t, err)
	d.db.NoSync = true
	now := time.Now()
	for i := range maxKnown + 500 {
		r := &protocol.Record{Node: protocol.NodeID{byte(i), byte(i >> 8)}, Seq: now.UnixMilli(), TTL: time.Hour, Signed: new(protocol.SignedRecord)}
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 1)
		c.answer(r, addr, now)
		c.fail(addr, now)
		c.serves(r.Node, chess, now)
		if i%100 == 0 {
			must(t, d.saveCache(c, nil))
		}
	}
	for i := range maxKnownApps + 500 {
		c.serves(protocol.NodeID{}, numbered(i), now)
	}
	must(t, d.saveCache(c, nil))
	if c.nodes.len() != maxKnown || c.apps.len() != maxKnownApps || c.at.len() > maxAddrs || c.failed.len() != maxAddrs || len(c.of(chess, now)) > maxAppNodes {
		t.Errorf("%d nodes, %d apps, %d addresses, %d failed ones", c.nodes.len(), c.apps.len(), c.at.len(), c.failed.len())
	}
	_ = d.db.View(func(tx *bbolt.Tx) error {
		if n, a := tx.Bucket([]byte(bucketNodes)).Stats().KeyN, tx.Bucket([]byte(bucketFound)).Stats().KeyN; n != maxKnown || a != maxKnownApps {
			t.Errorf("on the disk: %d nodes, %d apps", n, a)
		}
		return nil
	})
	must(t, d.close())
	c = newCache(false)
	c.answer(&protocol.Record{Node: nodeID(1), Seq: 1}, netip.MustParseAddrPort("10.0.0.1:1"), now)
	c.serves(nodeID(1), chess, now)
	if len(c.dirty.nodes)+len(c.dirty.apps) > 0 {
		t.Error("without a disk there is something to be written")
	}
}

func TestAppsAreBounded(t *testing.T) {
	s := newStore(t, newHub(), 1, nil)
	for i := range maxApps + 10 {
		s.Want(numbered(i), func(*protocol.Record) {})
	}
	if len(s.apps) != maxApps || len(s.changed) != maxApps || s.Stats().Apps != maxApps {
		t.Errorf("%d apps", len(s.apps))
	}
	s.serve()
}

// What relay wants to be remembered is.
func TestProven(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		onDisk := func(c *Config) { c.Dir = dir }
		s := newStore(t, h, 1, nil, onDisk)
		s.serve()
		if len(s.Proven()) > 0 {
			t.Error("something is proven")
		}
		many := slices.Repeat([]string{"ws://10.0.0.1:8787"}, protocol.DialBook+1)
		s.SetProven(many)
		time.Sleep(2 * saveEvery)
		s.stop()
		s = newStore(t, h, 1, nil, onDisk)
		s.serve()
		if got := s.Proven(); len(got) != protocol.DialBook || got[0] != many[0] {
			t.Errorf("%d are proven", len(got))
		}
	})
}
