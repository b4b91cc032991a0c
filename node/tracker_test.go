package node_test

import (
	"testing"

	"github.com/peerservers/peerserver/node"
)

func TestTwoClientsOfOneNode(t *testing.T) {
	n := startNode(t, node.Config{})
	meet(t, n, n)
}

func TestTwoClientsOfTwoNodes(t *testing.T) {
	nodes := startNodes(t, 2)
	meet(t, nodes[0], nodes[1])
}

// meet lets a client come to a first node and one to a second, and an offer
// and its answer pass between them.
func meet(t *testing.T, first, second *node.Node) {
	alice, bob := dial(t, first, "/"), dial(t, second, "/announce")
	h := hash("meet")
	alice.send(announce(h, peer("alice"), `"left":0`, offers(offer("a1", "sdp of alice"))))
	if got, want := alice.next(), `{"action":"announce","interval":40,"info_hash":"`+h+`","complete":1,"incomplete":0}`; got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
	bob.send(announce(h, peer("bob")))
	bob.next() // the counts depend on whether the nodes have met
	got, want := bob.next(), `{"action":"announce","offer":{"type":"offer","sdp":"sdp of alice"},"offer_id":"a1__________________","peer_id":"`+peer("alice")+`","info_hash":"`+h+`"}`
	if got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
	bob.send(announce(h, peer("bob"), `"to_peer_id":`+quote(peer("alice")), `"offer_id":"a1__________________"`, `"answer":{"type":"answer","sdp":"x"}`))
	got, want = alice.next(), `{"action":"announce","answer":{"type":"answer","sdp":"x"},"offer_id":"a1__________________","peer_id":"`+peer("bob")+`","info_hash":"`+h+`"}`
	if got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
}
