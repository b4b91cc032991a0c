package peer

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/transport/v4/vnet"

	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/testnet"
)

// lives says that no connection has ended, nor any other one come.
func lives(t *testing.T, all ...*talks) {
	t.Helper()
	for _, s := range all {
		if list := s.list(); len(list) != 1 || !strings.HasPrefix(list[0], "+") {
			t.Errorf("%s has seen %q", s.opts.Name, list)
		}
	}
}

// TestMoves: one of two moves to another network while both talk, and only that
// one can notice: its node is lost with the old network, or is not, and it is the
// one who makes offers, or is not. The connection lives on, and nothing is lost.
func TestMoves(t *testing.T) {
	t.Parallel()
	for _, nat := range []struct {
		name     string
		from, to vnet.NATType
		want     Path
	}{{"direct", portRestricted, portRestricted, PathDirect}, {"to TURN", portRestricted, symmetric, PathTURN}, {"TURN", symmetric, symmetric, PathTURN}} {
		for _, lower := range []bool{true, false} {
			for _, losesNode := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s, lower %v, loses node %v", nat.name, lower, losesNode), func(t *testing.T) {
					t.Parallel()
					i := newInternet(t)
					node := iceBetween(t, testnet.Start(t, 1).URL(0), named(3600, "user", "stun:"+turnHost, "turn:"+turnHost+"?transport=udp"))
					homes := []*traveller{travels(i.home(nat.from)), travels(i.home(nat.from))}
					var who []*talks
					for k, name := range []string{"alice", "bob"} {
						homes[k].deaf = true
						who = append(who, talker(t, name, Options{Nodes: []string{node.url}, API: homes[k].api(), addrs: homes[k].addrs}))
						who[k].knowsOnly(node.url)
					}
					who[0].sees("+bob")
					who[1].sees("+alice")
					peers := []*Peer{who[0].Peers()[0], who[1].Peers()[0]}
					mover := 0
					if (bytes.Compare(who[0].self.Bytes(), who[1].self.Bytes()) < 0) != lower {
						mover = 1
					}
					c := converse(t, peers[0], peers[1])
					time.Sleep(500 * time.Millisecond)
					heard, began := who[1-mover].inOrder(t), time.Now()
					homes[mover].goes(i.home(nat.to), losesNode)
					eventuallyWithin(t, 5*5*time.Second, "it goes on", func() bool { return who[1-mover].inOrder(t) > heard+20 && who[mover].inOrder(t) > heard+20 })
					t.Logf("it goes on after %v", time.Since(began))
					c.ends(t, who[0], who[1])
					lives(t, who...)
					eventually(t, "they say how they go", func() bool { return peers[0].Path() == nat.want && peers[1].Path() == nat.want })
				})
			}
		}
	}
}

// TestSilence: nobody's addresses change, but the way does: the network behind one
// of them is another one. Both find out by the silence; once that of the node too,
// which is one of the connection that there was, and not of another.
func TestSilence(t *testing.T) {
	t.Parallel()
	for _, losesNode := range []bool{false, true} {
		t.Run(fmt.Sprint("loses node ", losesNode), func(t *testing.T) {
			t.Parallel()
			i := newInternet(t)
			node := iceBetween(t, testnet.Start(t, 1).URL(0), named(3600, "user", "stun:"+turnHost))
			up, down, dead := node.up, node.down, new(atomic.Bool)
			node.up = func(m *protocol.ToNode) []*protocol.ToNode {
				if dead.Load() {
					return nil
				}
				return up(m)
			}
			node.down = func(m *protocol.ToPeer) []*protocol.ToPeer {
				if m.GetChallenge() != nil {
					dead.Store(false)
				}
				if dead.Load() {
					return nil
				}
				return down(m)
			}
			homes := []*traveller{travels(i.home(portRestricted)), travels(i.home(portRestricted))}
			var who []*talks
			for k, name := range []string{"alice", "bob"} {
				who = append(who, talker(t, name, Options{Nodes: []string{node.url}, API: homes[k].api()})) // it does not see its addresses
				who[k].knowsOnly(node.url)
			}
			who[0].sees("+bob")
			who[1].sees("+alice")
			c := converse(t, who[0].Peers()[0], who[1].Peers()[0])
			time.Sleep(500 * time.Millisecond)
			heard, began := who[1].inOrder(t), time.Now()
			dead.Store(losesNode)
			homes[0].goes(i.home(portRestricted), false)
			eventuallyWithin(t, 5*5*time.Second, "it goes on", func() bool { return who[1].inOrder(t) > heard+20 })
			t.Logf("it goes on after %v", time.Since(began))
			c.ends(t, who[0], who[1])
			lives(t, who...)
		})
	}
}

// TestCut: for ten seconds nothing gets through, to the node as well. Then all goes
// on as it was: nobody has left or come, and nothing is lost.
func TestCut(t *testing.T) {
	t.Parallel()
	i := newInternet(t)
	nodes := testnet.Start(t, 1)
	cut := new(atomic.Bool)
	node := iceBetween(t, nodes.URL(0), named(3600, "user", "stun:"+turnHost, "turn:"+turnHost+"?transport=udp"))
	up, down := node.up, node.down
	wait := func() {
		for end := time.Now().Add(3 * patience); cut.Load() && time.Now().Before(end); {
			time.Sleep(10 * time.Millisecond)
		}
	}
	node.up = func(m *protocol.ToNode) []*protocol.ToNode { wait(); return up(m) }
	node.down = func(m *protocol.ToPeer) []*protocol.ToPeer { wait(); return down(m) }
	home := i.home(portRestricted)
	alice := talker(t, "alice", Options{Nodes: []string{node.url}, API: travels(home).api()})
	bob := talker(t, "bob", Options{Nodes: []string{iceBetween(t, nodes.URL(0), node.says).url}, API: travels(i.home(fullCone)).api()})
	alice.knowsOnly(node.url)
	alice.sees("+bob")
	bob.sees("+alice")
	c := converse(t, alice.Peers()[0], bob.Peers()[0])
	time.Sleep(500 * time.Millisecond)
	cut.Store(true)
	home.cut.Store(true)
	time.Sleep(10 * time.Second)
	heard, began := bob.inOrder(t), time.Now()
	cut.Store(false)
	home.cut.Store(false)
	eventuallyWithin(t, 3*patience, "it goes on", func() bool { return bob.inOrder(t) > heard+20 })
	t.Logf("it goes on %v after the cut", time.Since(began))
	c.ends(t, alice, bob)
	lives(t, alice, bob)
}

// TestAskedToMend: the higher side asks, the lower one offers; one who asks all the
// time has nothing of it.
func TestAskedToMend(t *testing.T) {
	t.Parallel()
	w := wire(t, nil)
	w.meet(t, false, true)
	lower, higher := w.connect(t)
	offers, before := w.count(protocol.EnvelopeBody_KIND_OFFER), fragment(lower.Connection().LocalDescription().SDP)
	higher.m.wake(note{kind: noteMoved})
	eventually(t, "it is restarted", func() bool {
		return fragment(lower.Connection().LocalDescription().SDP) != before && isConnected(lower.Connection()) && isConnected(higher.Connection())
	})
	if n := w.count(protocol.EnvelopeBody_KIND_OFFER); n != offers+1 {
		t.Errorf("%d offers", n-offers)
	}
	began := time.Now()
	for range 1000 {
		w.lower.mu.Lock()
		lower.m.newest++
		sequence := lower.m.newest
		w.lower.mu.Unlock()
		lower.m.wake(note{kind: noteSignal, signal: protocol.EnvelopeBody_KIND_CANDIDATES, sequence: sequence, plain: []byte("[]")})
		time.Sleep(time.Millisecond)
	}
	if n, most := w.count(protocol.EnvelopeBody_KIND_OFFER)-offers-1, 2+int(time.Since(began)/restartLeast); n > most {
		t.Errorf("%d offers in %v", n, time.Since(began))
	}
	eventually(t, "it is connected", func() bool { return isConnected(lower.Connection()) && isConnected(higher.Connection()) })
	if l, h := w.connect(t); l != lower || h != higher {
		t.Error("the connection did not live on")
	}
}

// TestRenewed: connections over TURN go on with the credentials that the node has
// named last, whoever asks for them.
func TestRenewed(t *testing.T) {
	t.Parallel()
	i := newInternet(t)
	node := iceBetween(t, testnet.Start(t, 1).URL(0), named(3600, "first", "turn:"+turnHost+"?transport=udp"))
	var who []*talks
	for _, name := range []string{"alice", "bob"} {
		home := i.home(symmetric)
		home.walled = true
		who = append(who, talker(t, name, Options{Nodes: []string{node.url}, API: travels(home).api()}))
		who[len(who)-1].knowsOnly(node.url)
	}
	who[0].sees("+bob")
	who[1].sees("+alice")
	c := converse(t, who[0].Peers()[0], who[1].Peers()[0])
	for k, s := range who {
		if w := s.goes(PathTURN); w.Server != ServerBoth {
			t.Fatalf("it goes %+v", w)
		}
		time.Sleep(restartLeast)
		node.names(named(3600, "second of "+s.opts.Name, "turn:"+turnHost+"?transport=udp"))
		other := who[1-k]
		before, theirs := s.relayedAt(), other.relayedAt()
		s.asksNow()
		// A description is there before the connection is known to be gone.
		eventually(t, "it is restarted", func() bool {
			now, their := s.relayedAt(), other.relayedAt()
			return now != 0 && now != before && their != 0 && their != theirs &&
				isConnected(s.Peers()[0].Connection()) && isConnected(other.Peers()[0].Connection())
		})
		if _, seen := i.users.Load("second of " + s.opts.Name); !seen {
			t.Errorf("the server has not seen the second user of %s", s.opts.Name)
		}
	}
	c.ends(t, who[0], who[1])
	lives(t, who...)
}

// TestAddresses: only what is gone is looked after.
func TestAddresses(t *testing.T) {
	at := func(s string) netip.Addr { return netip.MustParseAddr(s) }
	s := addressSet{at("10.0.0.1"), at("2001:db8::1")}
	for a, want := range map[string]bool{"10.0.0.1": true, "::ffff:10.0.0.1": true, "10.0.0.2": false, "2001:db8::1": true, "2001:db8::2": false, "fe80::1%eth0": true} {
		if s.has(at(a)) != want {
			t.Errorf("%s: %v", a, !want)
		}
	}
	r := lone(t, "alice")
	here := r.here()
	if !slices.Contains(here, at("127.0.0.1")) || !slices.IsSortedFunc(here, netip.Addr.Compare) {
		t.Errorf("the addresses are %v", here)
	}
}

// relayedAt is the port of this side that the only peer's connection goes over, 0
// while there is none.
func (s *someone) relayedAt() uint16 {
	pair, err := s.Peers()[0].Connection().SCTP().Transport().ICETransport().GetSelectedCandidatePair()
	if err != nil || pair == nil {
		return 0
	}
	return pair.Local.Port
}
