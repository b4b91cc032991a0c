package node

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"log/slog"
	"testing"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// What other nodes tell of is bounded, however much they tell, and the newest
// is among it.
func TestLearntNodesAreBounded(t *testing.T) {
	f, err := newFixedFinder(&Config{Key: ed25519.NewKeyFromSeed(make([]byte, 32)), Log: slog.New(slog.DiscardHandler), AllowPrivate: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	told := 0
	f.Want(protocol.App("tracker", []byte("x"), nil), func(*protocol.Record) { told++ })
	var last protocol.NodeID
	for i := range 3 * maxLearnt {
		seed := sha256.Sum256(binary.BigEndian.AppendUint32(nil, uint32(i)))
		r := &protocol.Record{Seq: time.Now().UnixMilli(), TTL: protocol.RecordTTL, URLs: []string{"ws://10.0.0.1:8787"}}
		if err := protocol.SignRecord(ed25519.NewKeyFromSeed(seed[:]), r); err != nil {
			t.Fatal(err)
		}
		last = r.Node
		for range 2 { // the second time is no news
			f.Check([]*protocol.SignedRecord{r.Signed}, func(*protocol.Record) {})
			for len(f.tasks) > 0 {
				task := f.tasks[0]
				f.tasks = f.tasks[1:]
				task()
			}
		}
	}
	if len(f.learnt) != maxLearnt || f.learnt[last] == nil || f.known() != maxLearnt {
		t.Errorf("%d are kept, the newest: %v", len(f.learnt), f.learnt[last] != nil)
	}
	if told != 3*maxLearnt {
		t.Errorf("told %d times of %d nodes", told, 3*maxLearnt)
	}
}
