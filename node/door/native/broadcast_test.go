package native_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/testnet"
)

var chessKey = protocol.BroadcastKey(chess, []byte("chess"), nil)

func (c *client) broadcast(sequence uint64, text string) *protocol.ToPeer {
	c.t.Helper()
	h := protocol.EnvelopeHeader{App: chess, From: c.member(), Sequence: sequence}
	e, err := h.SealBroadcast(c.key, chessKey, []byte(text))
	if err != nil {
		c.t.Fatal(err)
	}
	return c.ask(&protocol.ToNode{Body: &protocol.ToNode_Broadcast{Broadcast: &protocol.Broadcast{App: chess[:], Session: c.session[:], Envelope: e}}})
}

func (c *client) hearsAll(from *client, text string) {
	c.t.Helper()
	b := c.next().GetBroadcast()
	if b == nil || !bytes.Equal(b.App, chess[:]) || !bytes.Equal(b.Session, c.session[:]) {
		c.t.Fatalf("told %v, want a broadcast", b)
	}
	h, plain, err := b.Envelope.OpenBroadcast(chess, chessKey)
	if err != nil || h.From != from.member() || string(plain) != text {
		c.t.Fatalf("heard %q, %v, want %q", plain, err, text)
	}
}

// A broadcast reaches all other members on three nodes, once each and in order,
// and nobody of another app.
func TestBroadcast(t *testing.T) {
	t.Parallel()
	net := testnet.Start(t, 3)
	var all []*client
	for i := range 6 {
		c := enters(t, net.URL(i%3), byte(i+1), chess)
		for range all {
			if c.next().GetArrived() == nil {
				t.Fatal("not shown who is there")
			}
		}
		for _, o := range all {
			o.sees(c, false)
		}
		all = append(all, c)
	}
	enters(t, net.URL(0), 100, protocol.App("peer", []byte("go"), nil)).hearsNothing()
	for i, from := range all {
		for n, text := range []string{"one", "two"} {
			from.does(from.broadcast(uint64(n+1), text))
		}
		for k, c := range all {
			if k != i {
				c.hearsAll(from, "one")
				c.hearsAll(from, "two")
			}
		}
	}
	for _, c := range all {
		c.hearsNothing()
	}
	if s := statsOf(t, net, 0); s.Broadcasts != 4 {
		t.Errorf("%d were counted", s.Broadcasts)
	}
}

// Who comes after a broadcast does not get it, on a node that learns of it
// later either.
func TestBroadcastIsNotForThoseWhoComeLater(t *testing.T) {
	t.Parallel()
	net := testnet.Start(t, 2)
	a := enters(t, net.URL(0), 1, chess)
	a.does(a.broadcast(1, "nobody hears"))
	time.Sleep(300 * time.Millisecond) // more than a frame takes: its age is all that tells who was there
	b := enters(t, net.URL(1), 2, chess)
	meet(a, b)
	a.does(a.broadcast(2, "b hears"))
	b.hearsAll(a, "b hears")
	b.hearsNothing()
}
