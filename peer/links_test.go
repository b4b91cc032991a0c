package peer

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/testnet"
)

// TestAllNodesKilled: alice and bob have never shared a node, and no node is
// left when they may connect. They know each other by carol, and connect
// through her.
func TestAllNodesKilled(t *testing.T) {
	t.Parallel()
	nodes := testnet.StartWith(t, testnet.Options{Nodes: 2, Islands: true})
	g := new(gate) // alice's way to others, after carol
	g.open.Store(true)
	alice := join(t, "alice", Options{Nodes: []string{nodes.URL(0)}, API: g.api(), NoRelay: true})
	bob := join(t, "bob", Options{Nodes: []string{nodes.URL(1)}, NoRelay: true})
	carol := join(t, "carol", Options{Nodes: []string{nodes.URL(0)}, NoRelay: true})
	alice.sees("+carol")
	carol.knows(nodes.URL(1))
	g.open.Store(false)
	nodes.Kill(0)
	carol.sees("+bob")
	bob.sees("+carol")
	nodes.Kill(1)
	eventually(t, "all have lost their nodes", func() bool { return alice.Node()+bob.Node()+carol.Node() == "" })
	if len(alice.Peers()) != 1 {
		t.Fatal("alice and bob are connected already")
	}
	g.open.Store(true)
	eventuallyWithin(t, 5*signalWithin, "alice and bob connect", func() bool { return len(alice.Peers()) == 2 && len(bob.Peers()) == 2 })
	bob.sees("+alice")
	alice.says("no node at all")
	bob.sees("alice: no node at all")
	eventually(t, "each says whom it is connected to", func() bool {
		return slices.Equal(saysLinked(peerOf(t, alice, bob)), []string{"carol direct"}) && slices.Equal(saysLinked(peerOf(t, carol, bob)), []string{"alice direct"})
	})
	bob.leave()
	alice.sees("-bob")
	if p := alice.met[1]; p.Lost() {
		t.Error("who said goodbye over the connection is lost")
	}
}

// knows has a room know another node.
func (s *someone) knows(url string) {
	s.homes.mu.Lock()
	defer s.homes.mu.Unlock()
	s.homes.urls = append(s.homes.urls, url)
}

func peerOf(t *testing.T, s, other *someone) *Peer {
	t.Helper()
	p := s.connectedTo(other.self)
	if p == nil {
		t.Fatalf("%s is not connected to %s", s.opts.Name, other.opts.Name)
	}
	return p
}

func saysLinked(p *Peer) (list []string) {
	for _, l := range p.Links() {
		list = append(list, l.Name+" "+l.Path.String())
	}
	return list
}

// TestSharedPeerIsEnough: two islands, and carol moves from one to the other.
// Those whom she knows meet without any node that they share.
func TestSharedPeerIsEnough(t *testing.T) {
	t.Parallel()
	nodes := testnet.StartWith(t, testnet.Options{Nodes: 2, Islands: true})
	// Over nodes it would end with them.
	alice := join(t, "alice", Options{Nodes: []string{nodes.URL(0)}, NoRelay: true})
	bob := join(t, "bob", Options{Nodes: []string{nodes.URL(1)}, NoRelay: true})
	carol := join(t, "carol", Options{Nodes: []string{nodes.URL(0)}, NoRelay: true})
	carol.sees("+alice")
	alice.sees("+carol")
	carol.knows(nodes.URL(1))
	nodes.Kill(0)
	alice.sees("+bob")
	bob.sees("+alice", "+carol")
	if n := alice.Members(); n != 2 {
		t.Errorf("alice knows of %d others", n)
	}
}

// TestTwentyPeers: a full mesh over three nodes, and everybody hears everybody
// once.
func TestTwentyPeers(t *testing.T) {
	n := 20
	if raceDetector {
		n = 8 // handshakes take ten times as long
	}
	nodes := testnet.Start(t, 3)
	all := make([]*someone, n)
	began := time.Now()
	for i := range all { // one after the other: the handshakes of many would keep the next from its join
		all[i] = join(t, fmt.Sprint("peer", i), Options{Nodes: []string{nodes.URL(i % 3)}})
		eventuallyWithin(t, 5*openWithin, all[i].opts.Name+" is connected to all before", func() bool { return len(all[i].Peers()) == i })
	}
	for _, s := range all {
		eventuallyWithin(t, 5*openWithin, "full mesh", func() bool { return len(s.Peers()) == n-1 })
	}
	t.Logf("%d peers are connected after %v", n, time.Since(began))
	var saying sync.WaitGroup
	for _, s := range all {
		saying.Go(func() { s.says("hello") })
	}
	saying.Wait()
	for i, s := range all {
		var want []string
		for k, o := range all {
			if k != i {
				want = append(want, o.opts.Name+": hello")
			}
		}
		s.sees(want...)
		if s.Members() != n-1 {
			t.Errorf("%s knows of %d others", s.opts.Name, s.Members())
		}
		counts := make(map[string]int)
		for _, line := range s.list() {
			counts[line]++
		}
		for line, c := range counts {
			if c > 1 || strings.HasPrefix(line, "-") {
				t.Errorf("%s saw %q %d times", s.opts.Name, line, c)
			}
		}
	}
	eventually(t, "all know who is connected to whom", func() bool {
		return !slices.ContainsFunc(all, func(s *someone) bool {
			return slices.ContainsFunc(s.Peers(), func(p *Peer) bool { return len(p.Links()) != n-2 })
		})
	})
}

// linkedPair are two rooms that are connected, and a member that neither knows.
func linkedPair(t *testing.T) (r *Room, p *Peer, other *Room) {
	t.Helper()
	w := wire(t, nil)
	w.meet(t, false, true)
	p, _ = w.connect(t)
	return w.lower, p, lone(t, "other")
}

// TestLinksAreBounded: a peer that names ever more members is believed in a
// hundred of them.
func TestLinksAreBounded(t *testing.T) {
	r, p, other := linkedPair(t)
	r.mu.Lock()
	r.opts.MaxPeers = 1
	r.mu.Unlock()
	for range 2 * maxLinks {
		o, err := newRoom("test", Options{Nodes: []string{"ws://127.0.0.1:1"}})
		if err != nil {
			t.Fatal(err)
		}
		presence, err := o.presence()
		if err != nil {
			t.Fatal(err)
		}
		r.linked(p, &protocol.Linked{Presence: presence, Path: protocol.Path_PATH_DIRECT})
	}
	if n := len(p.Links()); n != maxLinks {
		t.Errorf("%d links are believed", n)
	}
	bad, err := other.presence()
	if err != nil {
		t.Fatal(err)
	}
	bad = proto.Clone(bad).(*protocol.SignedPresence)
	bad.Signature[3] ^= 1
	known := r.Members()
	for _, l := range []*protocol.Linked{nil, {}, {Presence: bad, Path: protocol.Path_PATH_DIRECT}, {Presence: bad, Path: 77}} {
		p.take(&protocol.Control{Body: &protocol.Control_Linked{Linked: l}})
	}
	p.take(&protocol.Control{Body: &protocol.Control_Unlinked{}})
	if r.Members() != known {
		t.Error("a presence that does not verify is believed")
	}
	first := p.Links()[0]
	p.take(&protocol.Control{Body: &protocol.Control_Unlinked{Unlinked: &protocol.Unlinked{Member: first.Member.Bytes()}}})
	if r.Members() != known-1 || len(p.Links()) != maxLinks-1 {
		t.Errorf("%d members and %d links after one has gone", r.Members(), len(p.Links()))
	}
}

// TestForwardsAreChecked: nobody is a way to bother others in the dark.
func TestForwardsAreChecked(t *testing.T) {
	r, p, other := linkedPair(t)
	from := func(m protocol.Member, to protocol.Member, kind protocol.EnvelopeBody_Kind, pad int) *protocol.Envelope {
		b, err := proto.Marshal(&protocol.EnvelopeBody{App: r.app[:], From: m.Bytes(), To: to.Bytes(), Sequence: 1, Kind: kind, Sealed: make([]byte, pad)})
		if err != nil {
			t.Fatal(err)
		}
		return &protocol.Envelope{Body: b}
	}
	me, offer := p.member(), protocol.EnvelopeBody_KIND_OFFER
	for name, c := range map[string]struct {
		f    *protocol.Forward
		want protocol.Code
	}{
		"nothing":          {&protocol.Forward{}, protocol.CodeDenied},
		"garbage":          {&protocol.Forward{To: other.self.Bytes(), Envelope: &protocol.Envelope{Body: []byte{1}}}, protocol.CodeMalformed},
		"somebody else's":  {&protocol.Forward{To: other.self.Bytes(), Envelope: from(other.self, other.self, offer, 0)}, protocol.CodeDenied},
		"for another":      {&protocol.Forward{To: other.self.Bytes(), Envelope: from(me, r.self, offer, 0)}, protocol.CodeDenied},
		"relayed data":     {&protocol.Forward{To: other.self.Bytes(), Envelope: from(me, other.self, protocol.EnvelopeBody_KIND_DATA, 0)}, protocol.CodeDenied},
		"too large":        {&protocol.Forward{To: other.self.Bytes(), Envelope: from(me, other.self, offer, maxForward)}, protocol.CodeTooLarge},
		"for a stranger":   {&protocol.Forward{To: other.self.Bytes(), Envelope: from(me, other.self, offer, 0)}, protocol.CodeUnknownPeer},
		"back to oneself":  {&protocol.Forward{To: me.Bytes(), Envelope: from(me, me, offer, 0)}, protocol.CodeUnknownPeer},
		"to the forwarder": {&protocol.Forward{To: r.self.Bytes(), Envelope: from(me, r.self, offer, 0)}, protocol.CodeUnknownPeer},
	} {
		if got := r.pass(p, c.f); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	f := &protocol.Forward{To: other.self.Bytes(), Envelope: from(me, other.self, offer, 0)}
	for range 2 * costlyBurst {
		if r.pass(p, f) == protocol.CodeRate {
			return
		}
	}
	t.Error("a peer may ask for any number")
}

// TestForwardedIsOfWhoWasAsked: nobody else can say that a signal was passed on.
func TestForwardedIsOfWhoWasAsked(t *testing.T) {
	r, p, _ := linkedPair(t)
	m := newMember(r, protocol.Member{Peer: protocol.PeerID{1}})
	ref := r.forwarding(m, p)
	stranger := newPeer(m)
	r.forwarded(stranger, &protocol.Forwarded{Ref: ref})
	if _, waits := r.forwards[ref]; !waits {
		t.Error("a peer that was not asked has answered")
	}
	r.forwarded(p, &protocol.Forwarded{Ref: ref})
	if _, waits := r.forwards[ref]; waits {
		t.Error("the answer is not taken")
	}
}

// FuzzControl: whatever a peer says, the connection to it works afterwards, or
// has ended.
func FuzzControl(f *testing.F) {
	for _, c := range []*protocol.Control{
		{Body: &protocol.Control_Start{Start: &protocol.Start{Run: 3}}},
		{Body: &protocol.Control_Piece{Piece: &protocol.Piece{Run: 3, Sequence: 1, Data: []byte("x")}}},
		{Body: &protocol.Control_Linked{Linked: &protocol.Linked{Presence: &protocol.SignedPresence{Key: make([]byte, 32)}, Path: 1}}},
		{Body: &protocol.Control_Unlinked{Unlinked: &protocol.Unlinked{Member: make([]byte, 40)}}},
		{Body: &protocol.Control_Forward{Forward: &protocol.Forward{Ref: 1, To: make([]byte, 40), Envelope: &protocol.Envelope{Body: []byte("x")}}}},
		{Body: &protocol.Control_Forwarded{Forwarded: &protocol.Forwarded{Ref: firstRef + 1}}},
		{Body: &protocol.Control_Passed{Passed: &protocol.Envelope{Body: []byte("x")}}},
		{Body: &protocol.Control_Spread{Spread: &protocol.Spread{Pass: true}}},
		{Body: &protocol.Control_Call{Call: &protocol.Call{Id: 1, Path: commandEcho}}},
		{Body: &protocol.Control_CallCredit{CallCredit: &protocol.CallCredit{Id: 1}}},
	} {
		b, err := proto.Marshal(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := lone(t, "r")
		m := newMember(r, protocol.Member{Peer: protocol.PeerID{1}})
		other := lone(t, "other")
		signed, err := other.presence()
		if err != nil {
			t.Fatal(err)
		}
		if m.presence, err = signed.Verify(r.app); err != nil {
			t.Fatal(err)
		}
		m.events = make(chan event, maxNotes)
		p := newPeer(m)
		a := &attempt{m: m, p: p, shown: make(chan struct{}), started: make(chan struct{}), done: make(chan struct{})}
		close(a.shown)
		p.open(PathDirect)
		a.control(b)
		select {
		case <-a.started:
		default:
			close(a.started)
		}
		for range 3 {
			a.control(b)
		}
		r.mu.Lock()
		if len(r.members) > 2 || len(p.links) > 1 {
			t.Error("it has made up members")
		}
		r.mu.Unlock()
		r.unlist(p)
		close(p.done)
		close(a.done)
		p.end()
	})
}
