package matchbox_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/peerservers/peerserver/testnet"
)

// crowd is clients that do as the library does, all at once.
type crowd struct {
	t    *testing.T
	wait sync.WaitGroup
	ids  []string

	mu      sync.Mutex
	told    map[[2]string]int // NewPeer, by who is told and of whom
	answers map[[2]string]int // by who offered, and to whom
}

// play has a client offer to whoever it is told of, and answer offers, until all
// others have met it.
func (cr *crowd) play(c *client, others int) {
	for met := 0; met < others; {
		e, err := c.tryRead(patience)
		switch {
		case err != nil:
			cr.t.Errorf("%s has met %d: %v", c.id, met, err)
			return
		case e.NewPeer != "":
			cr.mu.Lock()
			cr.told[[2]string{c.id, e.NewPeer}]++
			cr.mu.Unlock()
			c.signals(e.NewPeer, `"offer"`)
		case e.Signal != nil && string(e.Signal.Data) == `"offer"`:
			c.signals(e.Signal.Sender, `"answer"`)
			met++
		case e.Signal != nil:
			cr.mu.Lock()
			cr.answers[[2]string{c.id, e.Signal.Sender}]++
			cr.mu.Unlock()
			met++
		default:
			cr.t.Errorf("%s is told %s", c.id, e.raw)
			return
		}
	}
}

// Of many that come at once, to slow nodes that learn of each other while they
// do, each pair meets, and one of the two alone is told to offer.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	const nodes, each = 3, 4
	net := testnet.StartWith(t, testnet.Options{Nodes: nodes, JoinWait: time.Second, Delay: 40 * time.Millisecond})
	cr := &crowd{t: t, told: make(map[[2]string]int), answers: make(map[[2]string]int)}
	for i := range nodes * each {
		c := enters(t, net.URL(i%nodes), "crowd")
		cr.ids = append(cr.ids, c.id)
		cr.wait.Go(func() { cr.play(c, nodes*each-1) })
		time.Sleep(100 * time.Millisecond)
	}
	cr.wait.Wait()
	for i, a := range cr.ids {
		for _, b := range cr.ids[:i] {
			ab, ba := [2]string{a, b}, [2]string{b, a}
			if told, answers := fmt.Sprint(cr.told[ab]+cr.told[ba]), fmt.Sprint(cr.answers[ab]+cr.answers[ba]); told+answers != "11" {
				t.Errorf("of %s and %s %s are told to offer, %s are answered", a, b, told, answers)
			}
		}
	}
}
