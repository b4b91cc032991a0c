package node

import (
	"context"
	"time"
)

// loadEvery is how often the node looks at its load. A record goes through the DHT
// in minutes, so it need not be oftener.
const loadEvery = time.Minute

// Classes of load, as a record has them: from which part of what there is to give
// one begins. A class is left only some way below that, so that a node at the edge
// of one does not sign a record after the other.
var loadClasses = [...]float64{0, 0.25, 0.5, 0.9} //nolint:gochecknoglobals // a table

const loadSlack = 0.05

// loadClass is the class of a load, 0 to 1, for a node that was of class before.
func loadClass(load float64, before int) int {
	class := 0
	for c, from := range loadClasses {
		if c == before {
			from -= loadSlack
		}
		if load >= from {
			class = c
		}
	}
	return class
}

// serveLoad keeps the record's class of load, by which others choose whose TURN
// their peers are sent to.
func (n *Node) serveLoad(ctx context.Context) error {
	for sleep(ctx, loadEvery) {
		before := n.load.Load()
		if class := loadClass(n.ice.Load(), int(before)); class != int(before) {
			n.load.Store(int32(class))
			if err := n.renewRecord(); err != nil {
				n.log.Error("own record cannot be changed", "err", err)
				continue
			}
			n.relay.RecordChanged()
		}
	}
	return nil
}
