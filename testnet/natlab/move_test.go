//go:build linux

package natlab_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/peerservers/peerserver/testnet/natlab"
)

const (
	goesOnWithin = 5 * time.Second  // after a move
	outage       = 10 * time.Second // of a cable
	pieces       = 10 * perSecond   // of a transfer, which lasts 10 s without trouble
)

// moveScene is two peers that are connected, of which the first sends.
type moveScene struct {
	t      *testing.T
	m      *mesh
	a, b   *natlab.Host
	pa, pb *natlab.Process
	before string // the path
}

// joins has a peer of some kind join on node i.
type joins func(m *mesh, t *testing.T, h *natlab.Host, i int, app string) *natlab.Process

func startTransfer(t *testing.T, binary string, a, b natlab.NAT, joinA, joinB joins) *moveScene {
	t.Helper()
	s := &moveScene{t: t, m: startMesh(t, binary, natlab.Config{Delay: 25 * time.Millisecond}, "--turn")}
	s.a, s.b = s.m.lab.Home("a", a), s.m.lab.Home("b", b)
	s.pa, s.pb = joinA(s.m, t, s.a, 0, t.Name()), joinB(s.m, t, s.b, 1, t.Name())
	want := cell{a: a, b: b, turn: true}.want()
	var ways []way
	for _, p := range []*natlab.Process{s.pa, s.pb} {
		e := await(t, p, patience, "path "+want, func(e event) bool { return e.Way != nil && e.Way.Path == want })
		ways = append(ways, *e.Way)
	}
	s.before = nameOf(ways)
	if err := s.pa.Say(fmt.Sprintf("send %d", pieces)); err != nil {
		t.Fatal(err)
	}
	// In the middle of it.
	await(t, s.pb, patience, "part of the transfer", func(e event) bool { return e.Bytes > pieces*pieceSize/8 })
	return s
}

// goesOn waits until bytes come again that were sent after a moment, and returns
// how long that took. What was on its way at the moment does not count.
func (s *moveScene) goesOn(since time.Time) time.Duration {
	s.t.Helper()
	settled := since.Add(200 * time.Millisecond)
	e := await(s.t, s.pb, patience, "more of the transfer", func(e event) bool { return e.Event == "progress" && e.At.After(settled) })
	took := e.At.Sub(since)
	s.t.Logf("it went on after %s", took.Round(10*time.Millisecond))
	if took > 5*goesOnWithin {
		s.t.Errorf("it went on only after %s", took)
	}
	return took
}

// ends waits for the end of the transfer, and looks whether all of it has come,
// once, and to one and the same peer.Peer. It returns the path.
func (s *moveScene) ends() string {
	s.t.Helper()
	done := await(s.t, s.pb, 3*patience, "end of the transfer", is("done"))
	sent := await(s.t, s.pa, patience, "end of the sending", is("sent"))
	if done.Broken != "" || done.Bytes != sent.Bytes || done.Hash != sent.Hash {
		s.t.Errorf("%d bytes have come of %d; %s", done.Bytes, sent.Bytes, done.Broken)
	}
	var ways []way
	for _, p := range []*natlab.Process{s.pa, s.pb} {
		events := eventsOf(s.t, p)
		if meets, leaves := count(events, "peer"), count(events, "leave"); meets != 1 || leaves != 0 {
			s.t.Errorf("%d peers were met and %d lost", meets, leaves)
		}
		ways = append(ways, lastWay(events))
	}
	return nameOf(ways)
}

// move is a machine that is carried to another network in mid-transfer.
type move struct {
	a, b, to natlab.NAT // from a to b goes the transfer
	sender   bool       // it is a who moves
}

func (m move) String() string {
	if m.sender {
		return fmt.Sprintf("the sender goes from %s to %s, the receiver is %s", m.a, m.to, m.b)
	}
	return fmt.Sprintf("the receiver goes from %s to %s, the sender is %s", m.b, m.to, m.a)
}

// A machine is carried to another network in the middle of a transfer: it goes on
// within 5 s, and nothing is lost. What was measured is printed; a slow machine
// has five times as long.
func TestMove(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: real processes")
	}
	natlab.Start(t, natlab.Config{}) // or is skipped
	binary := buildNode(t)
	moves := []move{
		{natlab.PortRestricted, natlab.PortRestricted, natlab.FullCone, true},
		{natlab.PortRestricted, natlab.Symmetric, natlab.AddressRestricted, false},
		{natlab.AddressRestricted, natlab.Double, natlab.Public, false},
		{natlab.Symmetric, natlab.FullCone, natlab.Symmetric, false},
		{natlab.FullCone, natlab.PortRestricted, natlab.UDPBlocked, false},
		{natlab.WebOnly, natlab.PortRestricted, natlab.PortRestricted, true},
	}
	var r troubles
	t.Run("moves", func(t *testing.T) {
		for i, c := range moves {
			t.Run(c.String(), func(t *testing.T) {
				t.Parallel()
				s := startTransfer(t, binary, c.a, c.b, (*mesh).join, (*mesh).join)
				s.moves(c, func(one trouble) { r.add(i, one) })
			})
		}
	})
	if err := writeTable("moves", r.text(len(moves))); err != nil {
		t.Fatal(err)
	}
}

// TestTabMoves is the same with tabs of Chromium and our own SDK: browsers notice
// by themselves that the network is another one, or not at all. A cover has every
// second one.
func TestTabMoves(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: real processes")
	}
	natlab.Start(t, natlab.Config{}) // or is skipped
	chromium, binary := findChromium(t), buildNode(t)
	tab := func(m *mesh, t *testing.T, h *natlab.Host, i int, app string) *natlab.Process {
		return m.openTab(t, h, i, app, chromium)
	}
	moves := []struct {
		move
		from, into joins
		who        string
	}{
		{move{natlab.PortRestricted, natlab.PortRestricted, natlab.FullCone, true}, tab, tab, "Chromium to Chromium"},
		{move{natlab.PortRestricted, natlab.Symmetric, natlab.AddressRestricted, false}, tab, tab, "Chromium to Chromium"},
		{move{natlab.FullCone, natlab.PortRestricted, natlab.UDPBlocked, false}, (*mesh).join, tab, "Go to Chromium"},
		{move{natlab.PortRestricted, natlab.PortRestricted, natlab.Symmetric, false}, tab, (*mesh).join, "Chromium to Go"},
	}
	var r troubles
	slots := make(chan struct{}, atOnce)
	t.Run("moves", func(t *testing.T) {
		for i, c := range moves {
			if os.Getenv(envFull) == "" && i%2 == 1 {
				continue
			}
			t.Run(c.who+", "+c.String(), func(t *testing.T) {
				t.Parallel()
				slots <- struct{}{}
				defer func() { <-slots }()
				s := startTransfer(t, binary, c.a, c.b, c.from, c.into)
				s.moves(c.move, func(one trouble) {
					one.what = c.who + ": " + one.what
					r.add(i, one)
				})
				s.pa.Stop() // before another one has the slot
				s.pb.Stop()
			})
		}
	})
	if err := writeTable("tabs", r.text(len(moves))); err != nil {
		t.Fatal(err)
	}
}

// moves has one of both move, and tells what came of it when all is well.
func (s *moveScene) moves(c move, well func(trouble)) {
	s.t.Helper()
	mover := s.b
	if c.sender {
		mover = s.a
	}
	mover.Move(s.m.lab.Network("cafe", c.to))
	took := s.goesOn(time.Now())
	after := s.ends()
	if !s.t.Failed() {
		well(trouble{c.String(), s.before, after, took})
	}
}

// A cable is cut for 10 s: the transfer goes on, and to both the other one is the
// same peer.Peer all the while.
func TestOutage(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: real processes")
	}
	natlab.Start(t, natlab.Config{}) // or is skipped
	binary := buildNode(t)
	homes := [][2]natlab.NAT{
		{natlab.PortRestricted, natlab.FullCone},
		{natlab.Symmetric, natlab.Symmetric},
		{natlab.UDPBlocked, natlab.PortRestricted},
	}
	var r troubles
	t.Run("outages", func(t *testing.T) {
		for i, c := range homes {
			name := fmt.Sprintf("10 s without the cable of the sender, %s; the receiver is %s", c[0], c[1])
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := startTransfer(t, binary, c[0], c[1], (*mesh).join, (*mesh).join)
				s.a.Cable().Cut()
				time.Sleep(outage)
				s.a.Cable().Heal()
				took := s.goesOn(time.Now())
				after := s.ends()
				if !t.Failed() {
					r.add(i, trouble{name, s.before, after, took})
				}
			})
		}
	})
	if err := writeTable("outages", r.text(len(homes))); err != nil {
		t.Fatal(err)
	}
}
