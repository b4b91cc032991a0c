package rxdb_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/peerservers/peerserver/testnet"
)

// crowd has a client do as the library does, until it has met all others: it
// offers to those with a greater id as soon as it is shown them, and answers
// others.
func crowd(t *testing.T, c *client, others int) {
	offered := make(map[string]bool)
	for met := 0; met < others; {
		for _, id := range c.known {
			if id > c.id && !offered[id] {
				offered[id] = true
				c.write(c.signal(id, `"offer"`))
			}
		}
		f, err := c.tryRead(patience)
		switch {
		case err != nil:
			t.Errorf("%s has met %d: %v", c.id, met, err)
			return
		case f.Type == "joined":
			continue
		case !slices.Contains(c.known, f.SenderPeerID):
			t.Errorf("%s came before a joined that names who sent it", f.raw)
		case string(f.Data) == `"offer"`:
			c.write(c.signal(f.SenderPeerID, `"answer"`))
		case !offered[f.SenderPeerID]:
			t.Errorf("%s answers nothing", f.raw)
		}
		met++
	}
}

// Of many that come at once, to slow nodes that learn of each other while they
// do, each pair meets, and is shown each other before.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	const nodes, each = 3, 4
	net := testnet.StartWith(t, testnet.Options{Nodes: nodes, JoinWait: time.Second, Delay: 40 * time.Millisecond})
	var wait sync.WaitGroup
	for i := range nodes * each {
		c := enters(t, net.URL(i%nodes), "crowd of many")
		wait.Go(func() { crowd(t, c, nodes*each-1) })
		time.Sleep(100 * time.Millisecond)
	}
	wait.Wait()
}
