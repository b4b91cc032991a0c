package dhtstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
	"google.golang.org/protobuf/proto"

	"github.com/peerservers/peerserver/protocol"
)

const (
	diskName = "dht.db"
	lockWait = time.Second // for another process to let go of the file
)

// The file's buckets.
const (
	bucketMeta   = "meta"   // small things by name
	bucketNodes  = "nodes"  // NodeID: sequence, last answer (unix ms), compact address, record
	bucketFound  = "found"  // AppID: NodeIDs found for it, the latest first
	bucketWanted = "wanted" // AppID: 1; apps that have peers here
)

// disk is the file in the data folder. All of it is read once, when it is
// opened, and it is thrown away when that fails: what it has can be had again.
type disk struct {
	db      *bbolt.DB
	failing bool // the last save did; Store.save's
}

// kept is what was on the disk.
type kept struct {
	ids    [2][20]byte // DHT ids, zero for none
	table  []node
	seq    int64 // the last of our own record
	wanted []protocol.AppID
	proven []string
}

// openDisk opens or makes the file, and reads it: into the cache and into what
// is returned.
func openDisk(dir string, self protocol.NodeID, c *cache, log *slog.Logger) (*disk, kept, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, kept{}, err
	}
	path := filepath.Join(dir, diskName)
	d, k, err := openFile(path, self, c)
	if !errors.Is(err, errBroken) {
		return d, k, err
	}
	log.Warn("DHT data cannot be read and is begun anew; what was there is kept beside it", "file", path+".broken", "err", err)
	if err := os.Rename(path, path+".broken"); err != nil {
		return nil, kept{}, err
	}
	return openFile(path, self, c)
}

func openFile(path string, self protocol.NodeID, c *cache) (*disk, kept, error) {
	var db *bbolt.DB
	err := guard(func() (err error) {
		db, err = bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockWait, FreelistType: bbolt.FreelistMapType})
		return err
	})
	if errors.Is(err, bbolterrors.ErrTimeout) {
		return nil, kept{}, fmt.Errorf("%s is in use; does another peerserver run on this data folder?", path)
	}
	if err != nil {
		return nil, kept{}, fmt.Errorf("%s: %w", path, damage(err))
	}
	d := &disk{db: db}
	var k kept
	if err = guard(func() (err error) { k, err = d.load(self, c); return err }); err != nil {
		db.Close()
		return nil, kept{}, fmt.Errorf("%s: %w", path, damage(err))
	}
	return d, k, nil
}

// errBroken is that the file is none of ours, or not as we left it.
var errBroken = errors.New("damaged")

// damage is err, and errBroken too unless it is the machine that fails.
func damage(err error) error {
	if errno := syscall.Errno(0); errors.As(err, &errno) {
		return err
	}
	return errors.Join(errBroken, err)
}

// guard makes an error of the panics with which bbolt meets a damaged file,
// and of the fault when it is shorter than it says.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", errBroken, r)
		}
	}()
	return f()
}

// load reads all there is, and removes what is too old or makes no sense.
func (d *disk) load(self protocol.NodeID, c *cache) (k kept, err error) {
	err = d.db.Update(func(tx *bbolt.Tx) error {
		buckets := make(map[string]*bbolt.Bucket)
		for _, name := range []string{bucketMeta, bucketNodes, bucketFound, bucketWanted} {
			b, err := tx.CreateBucketIfNotExists([]byte(name))
			if err != nil {
				return err
			}
			buckets[name] = b
		}
		meta := buckets[bucketMeta]
		for i := range k.ids {
			copy(k.ids[i][:], meta.Get(idKey(i)))
		}
		for _, v6 := range []bool{false, true} {
			k.table = append(k.table, readTable(meta.Get(tableKey(v6)), v6)...)
		}
		if b := meta.Get(seqKey(self)); len(b) == 8 {
			k.seq = int64(binary.BigEndian.Uint64(b))
		}
		if b := meta.Get([]byte("proven")); len(b) > 0 {
			k.proven = strings.Split(string(b), "\n")
		}
		now := time.Now()
		return errors.Join(
			prune(buckets[bucketNodes], func(key, value []byte) bool { return c.restore(key, value, now) }),
			prune(buckets[bucketFound], func(key, value []byte) bool { return c.restoreApp(key, value, now) }),
			prune(buckets[bucketWanted], func(key, _ []byte) bool {
				if len(key) != len(protocol.AppID{}) || len(k.wanted) >= maxRestored {
					return false
				}
				k.wanted = append(k.wanted, protocol.AppID(key))
				return true
			}),
		)
	})
	return k, err
}

// prune removes the entries that keep does not want.
func prune(b *bbolt.Bucket, keep func(key, value []byte) bool) error {
	var gone [][]byte
	err := b.ForEach(func(key, value []byte) error {
		if !keep(key, value) {
			gone = append(gone, append([]byte(nil), key...))
		}
		return nil
	})
	for _, key := range gone {
		err = errors.Join(err, b.Delete(key))
	}
	return err
}

// restore takes a node from the disk, unless it is too old or there are too
// many. Its record is verified as if it came from the network.
func (c *cache) restore(key, value []byte, now time.Time) bool {
	n, signed, ok := readNode(value)
	if !ok || len(key) != len(protocol.NodeID{}) || now.Sub(n.answered) > maxKnownAge || c.nodes.len() >= maxKnown {
		return false
	}
	if r, err := signed.Verify(protocol.NodeID(key), now); err == nil && r.Seq == n.seq {
		n.record = r
	}
	c.nodes.put(protocol.NodeID(key), n, netip.Addr{}, now)
	return true
}

func (c *cache) restoreApp(key, value []byte, now time.Time) bool {
	const size = len(protocol.NodeID{})
	if len(key) != len(protocol.AppID{}) || len(value)%size != 0 || len(value) > maxAppNodes*size || c.apps.len() >= maxKnownApps {
		return false
	}
	var ids []protocol.NodeID
	for ; len(value) > 0; value = value[size:] {
		if id := protocol.NodeID(value[:size]); c.nodes.get(id, now) != nil {
			ids = append(ids, id)
		}
	}
	if len(ids) > 0 {
		c.apps.put(protocol.AppID(key), ids, netip.Addr{}, now)
	}
	return len(ids) > 0
}

func writeNode(n *knownNode) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(n.seq))
	b = binary.BigEndian.AppendUint64(b, uint64(n.answered.UnixMilli()))
	addr := []byte(nil)
	if n.addr.IsValid() {
		addr = appendAddr(nil, n.addr)
	}
	b = append(append(b, byte(len(addr))), addr...)
	if n.record != nil {
		raw, _ := proto.Marshal(n.record.Signed) // of a verified record it never fails
		b = append(b, raw...)
	}
	return b
}

func readNode(b []byte) (n knownNode, signed *protocol.SignedRecord, ok bool) {
	if len(b) < 17 || len(b) < 17+int(b[16]) {
		return n, nil, false
	}
	n.seq = int64(binary.BigEndian.Uint64(b))
	n.answered = time.UnixMilli(int64(binary.BigEndian.Uint64(b[8:])))
	addr, raw := b[17:17+int(b[16])], b[17+int(b[16]):]
	if len(addr) > 0 {
		if n.addr, ok = parseAddr(addr, len(addr) > 6); !ok {
			return n, nil, false
		}
	}
	signed = new(protocol.SignedRecord)
	if err := proto.Unmarshal(raw, signed); err != nil {
		return n, nil, false
	}
	return n, signed, true
}

func readTable(b []byte, v6 bool) (all []node) {
	size := 20 + addrLen(v6) + 2
	for ; len(b) >= size; b = b[size:] {
		if a, ok := parseAddr(b[20:size], v6); ok {
			all = append(all, node{[20]byte(b[:20]), a})
		}
	}
	return all
}

func idKey(i int) []byte { return []byte{'i', 'd', byte('0' + i)} }

func tableKey(v6 bool) []byte {
	if v6 {
		return []byte("table6")
	}
	return []byte("table4")
}

func seqKey(self protocol.NodeID) []byte { return append([]byte("seq/"), self[:]...) }

// saveSeq is on the disk when it returns.
func (d *disk) saveSeq(self protocol.NodeID, seq int64) error {
	return d.update(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(bucketMeta)).Put(seqKey(self), binary.BigEndian.AppendUint64(nil, uint64(seq)))
	})
}

// saveTable keeps the DHT's nodes and our ids.
func (d *disk) saveTable(ids [][20]byte, nodes []node) error {
	var compact [2][]byte
	for _, n := range nodes {
		i := 0
		if n.Addr.Addr().Is6() {
			i = 1
		}
		compact[i] = appendAddr(append(compact[i], n.ID[:]...), n.Addr)
	}
	return d.update(func(tx *bbolt.Tx) error {
		meta := tx.Bucket([]byte(bucketMeta))
		err := errors.Join(meta.Put(tableKey(false), compact[0]), meta.Put(tableKey(true), compact[1]))
		for i, id := range ids {
			err = errors.Join(err, meta.Put(idKey(i), id[:]))
		}
		return err
	})
}

func (d *disk) saveProven(proven []string) error {
	return d.update(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(bucketMeta)).Put([]byte("proven"), []byte(strings.Join(proven, "\n")))
	})
}

// saveCache writes what has changed in the cache, and which apps are wanted
// (true) or are no more.
func (d *disk) saveCache(c *cache, wanted map[protocol.AppID]bool) error {
	c.mu.Lock()
	changed := c.dirty
	c.dirty = newDirt()
	nodes, apps := make(map[protocol.NodeID][]byte), make(map[protocol.AppID][]byte)
	now := time.Now()
	for id := range changed.nodes {
		nodes[id] = nil
		if n := c.nodes.get(id, now); n != nil {
			nodes[id] = writeNode(n)
		}
	}
	for app := range changed.apps {
		apps[app] = nil
		if ids := c.apps.get(app, now); ids != nil {
			for _, id := range *ids {
				apps[app] = append(apps[app], id[:]...)
			}
		}
	}
	c.mu.Unlock()
	if len(nodes)+len(apps)+len(wanted) == 0 {
		return nil
	}
	return d.update(func(tx *bbolt.Tx) (err error) {
		for id, value := range nodes {
			err = errors.Join(err, putOrDelete(tx.Bucket([]byte(bucketNodes)), id[:], value))
		}
		for app, value := range apps {
			err = errors.Join(err, putOrDelete(tx.Bucket([]byte(bucketFound)), app[:], value))
		}
		for app, is := range wanted {
			value := []byte(nil)
			if is {
				value = []byte{1}
			}
			err = errors.Join(err, putOrDelete(tx.Bucket([]byte(bucketWanted)), app[:], value))
		}
		return err
	})
}

func putOrDelete(b *bbolt.Bucket, key, value []byte) error {
	if value == nil {
		return b.Delete(key)
	}
	return b.Put(key, value)
}

func (d *disk) update(f func(*bbolt.Tx) error) error {
	return guard(func() error { return d.db.Update(f) })
}

func (d *disk) close() error { return d.db.Close() }
