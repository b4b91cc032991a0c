package testnet

import (
	"testing"
	"time"
)

// TestPeersOnDifferentNodesMeet is the main job, with real connections.
func TestPeersOnDifferentNodesMeet(t *testing.T) {
	net := Start(t, 3)
	alice := net.Join("alice", 0)
	bob := net.Join("bob", 1)
	t.Logf("alice and bob met in %v", alice.Meets(bob))
	carol := net.Join("carol", 2)
	t.Logf("carol met alice in %v", carol.Meets(alice))
	carol.Meets(bob)
	alice.Tells(bob, "hello")
	bob.Tells(carol, "hello")
	if len(net.Trace()) == 0 {
		t.Error("nothing flowed between the nodes")
	}
}

// TestIslandsDoNotMeet shows that nothing but the links brings peers together.
func TestIslandsDoNotMeet(t *testing.T) {
	net := StartWith(t, Options{Nodes: 2, Islands: true})
	alice, bob := net.Join("alice", 0), net.Join("bob", 1)
	time.Sleep(3 * time.Second)
	if alice.HasMet(bob) || bob.HasMet(alice) {
		t.Error("peers of nodes that do not know each other have met")
	}
}

// TestPartitionHeals: what was said before goes on, and who came while the
// nodes were apart meets when they are not.
func TestPartitionHeals(t *testing.T) {
	net := Start(t, 2)
	alice, bob := net.Join("alice", 0), net.Join("bob", 1)
	alice.Meets(bob)
	net.Partition(0)
	alice.Tells(bob, "still here")
	carol := net.Join("carol", 0)
	carol.Meets(alice)
	time.Sleep(time.Second)
	if carol.HasMet(bob) {
		t.Error("carol met bob across a cut")
	}
	net.HealAll()
	t.Logf("carol met bob %v after the nodes could reach each other", carol.Meets(bob))
}

// TestNodeKilled: direct connections live on, and its peers' room does too.
func TestNodeKilled(t *testing.T) {
	net := Start(t, 3)
	alice, bob := net.Join("alice", 0), net.Join("bob", 1)
	alice.Meets(bob)
	net.Kill(1)
	alice.Tells(bob, "without your node")
	carol := net.Join("carol", 2)
	carol.Meets(alice)
	net.Restart(1)
	dave := net.Join("dave", 1)
	dave.Meets(alice)
	dave.Meets(carol)
}

// TestSlowLinks: 100 ms one way between any two nodes.
func TestSlowLinks(t *testing.T) {
	net := StartWith(t, Options{Nodes: 2, Delay: 100 * time.Millisecond})
	alice := net.Join("alice", 0)
	bob := net.Join("bob", 1)
	t.Logf("met in %v", alice.Meets(bob))
}
