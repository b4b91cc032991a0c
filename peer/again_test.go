package peer

import (
	"testing"
	"time"

	"github.com/peerservers/peerserver/testnet"
)

// TestLeaveAndComeBack: an app that everybody has left is joined again.
func TestLeaveAndComeBack(t *testing.T) {
	t.Parallel()
	nodes := testnet.Start(t, 2)
	for _, pause := range []time.Duration{0, 0, time.Second, 0} {
		time.Sleep(pause)
		alice := join(t, "alice", Options{Nodes: []string{nodes.URL(0)}})
		bob := join(t, "bob", Options{Nodes: []string{nodes.URL(1)}})
		began := time.Now()
		alice.sees("+bob")
		bob.sees("+alice")
		t.Logf("met in %v", time.Since(began))
		bob.leave()
		alice.leave()
	}
}
