package peer

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/testnet"
)

func TestThreePeersOnThreeNodes(t *testing.T) {
	nodes := testnet.Start(t, 3)
	alice := join(t, "alice", Options{Nodes: []string{nodes.URL(0)}})
	bob := join(t, "bob", Options{Nodes: []string{nodes.URL(1)}})
	carol := join(t, "carol", Options{Nodes: []string{nodes.URL(2)}, Services: []string{"print"}, Metadata: []byte("ink")})
	alice.sees("+bob", "+carol")
	bob.sees("+alice", "+carol")
	carol.sees("+alice", "+bob")
	carol.says("good evening")
	alice.sees("carol: good evening")
	bob.sees("carol: good evening")
	i := slices.IndexFunc(alice.Peers(), func(p *Peer) bool { return p.ID() == carol.ID() })
	if i < 0 {
		t.Fatal("alice does not list carol")
	}
	p := alice.Peers()[i]
	if p.Session() != carol.Session() || p.Name() != "carol" || !slices.Equal(p.Services(), []string{"print"}) || string(p.Metadata()) != "ink" {
		t.Errorf("carol is shown as %v %q %q %q", p.Session(), p.Name(), p.Services(), p.Metadata())
	}
}

// TestOneIdentityTwice: two devices of one person are two peers with one id,
// to others and to each other.
func TestOneIdentityTwice(t *testing.T) {
	nodes := testnet.Start(t, 2)
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	phone := join(t, "phone", Options{Nodes: []string{nodes.URL(0)}, Identity: key})
	laptop := join(t, "laptop", Options{Nodes: []string{nodes.URL(1)}, Identity: key})
	bob := join(t, "bob", Options{Nodes: []string{nodes.URL(1)}})
	bob.sees("+phone", "+laptop")
	phone.sees("+laptop", "+bob")
	laptop.sees("+phone", "+bob")
	list := bob.Peers()
	if len(list) != 2 || list[0].ID() != list[1].ID() || list[0].ID() != phone.ID() || list[0].Session() == list[1].Session() {
		t.Errorf("bob has %d peers, want two sessions of one id", len(list))
	}
	if err := bob.Send(t.Context(), phone.ID(), []byte("to both")); err != nil {
		t.Fatal(err)
	}
	phone.sees("bob: to both")
	laptop.sees("bob: to both")
	if err := list[0].Send(t.Context(), []byte("to one")); err != nil {
		t.Fatal(err)
	}
	one, other := phone, laptop
	if list[0].Session() == laptop.Session() {
		one, other = laptop, phone
	}
	one.sees("bob: to one")
	err = bob.Send(t.Context(), bob.ID(), []byte("to nobody"))
	if e, ok := errors.AsType[*protocol.Error](err); !ok || e.Code != protocol.CodeUnknownPeer {
		t.Errorf("sent to nobody: %v", err)
	}
	bob.says("to all")
	other.sees("bob: to all")
	if slices.Contains(other.list(), "bob: to one") {
		t.Error("what was for one session has come to the other")
	}
	phone.leave()
	bob.sees("-phone")
	laptop.says("still here")
	bob.sees("laptop: still here")
}

// TestNodeKilledAfter: the channel lives on, and bob, who knew only that node,
// is met by others through one that it had named.
func TestNodeKilledAfter(t *testing.T) {
	t.Parallel()
	nodes := testnet.Start(t, 3)
	alice := join(t, "alice", Options{Nodes: []string{nodes.URL(0)}, NoRelay: true})
	bob := join(t, "bob", Options{Nodes: []string{nodes.URL(1)}, NoRelay: true})
	alice.sees("+bob")
	bob.sees("+alice")
	nodes.Kill(1)
	alice.says("without your node")
	bob.sees("alice: without your node")
	carol := join(t, "carol", Options{Nodes: []string{nodes.URL(2)}})
	began := time.Now()
	carol.sees("+bob", "+alice")
	t.Logf("carol met bob %v after she had joined", time.Since(began))
	if i := slices.IndexFunc(carol.Peers(), func(p *Peer) bool { return p.ID() == bob.ID() && p.Session() == bob.Session() }); i < 0 {
		t.Error("bob has come back as somebody else")
	}
	bob.says("back")
	alice.sees("bob: back")
	if list := alice.list(); slices.Contains(list, "-bob") {
		t.Errorf("alice lost bob: %q", list)
	}
}

// TestNodeKilledDuringHandshake: links are slow, and bob's node is gone before
// anybody's offer can have come.
func TestNodeKilledDuringHandshake(t *testing.T) {
	nodes := testnet.StartWith(t, testnet.Options{Nodes: 3, Delay: 400 * time.Millisecond})
	alice := join(t, "alice", Options{Nodes: []string{nodes.URL(0)}})
	bob := join(t, "bob", Options{Nodes: []string{nodes.URL(1)}})
	eventually(t, "one knows of the other", func() bool { return alice.Members()+bob.Members() > 0 })
	if list := bob.list(); len(list) > 0 {
		t.Fatalf("too late: %q", list)
	}
	nodes.Kill(1)
	began := time.Now()
	alice.sees("+bob")
	bob.sees("+alice")
	t.Logf("met %v after the node was killed", time.Since(began))
	alice.says("at last")
	bob.sees("alice: at last")
}

// TestManyMegabytes: all of it arrives, in order, though what waits is bounded.
func TestManyMegabytes(t *testing.T) {
	size := 100_000_000
	if raceDetector {
		size = 10_000_000 // it is ten times as slow
	}
	nodes := testnet.Start(t, 1)
	var mu sync.Mutex
	hash, got := sha256.New(), 0
	alice := join(t, "alice", Options{Nodes: []string{nodes.URL(0)}, NoRelay: true})
	join(t, "bob", Options{Nodes: []string{nodes.URL(0)}, NoRelay: true, OnMessage: func(_ *Peer, b []byte) {
		mu.Lock()
		defer mu.Unlock()
		hash.Write(b)
		got += len(b)
	}})
	alice.sees("+bob")
	p := alice.Peers()[0]
	most, want := uint64(0), sha256.New()
	began := time.Now()
	chunk := make([]byte, MaxMessage)
	for sent := 0; sent < size; sent += len(chunk) {
		chunk = chunk[:min(len(chunk), size-sent)]
		rand.Read(chunk)
		want.Write(chunk)
		if err := p.Send(t.Context(), chunk); err != nil {
			t.Fatal(err)
		}
		most = max(most, p.lanes[laneMain].dc.BufferedAmount())
	}
	if most > highWater+MaxMessage {
		t.Errorf("%d bytes were on their way at one time", most)
	}
	eventually(t, "all of it", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return got >= size
	})
	t.Logf("%d MB in %v", size/1_000_000, time.Since(began))
	if got != size || !bytes.Equal(hash.Sum(nil), want.Sum(nil)) {
		t.Error("other bytes have arrived")
	}
	if err := p.Send(t.Context(), make([]byte, MaxMessage+1)); err == nil {
		t.Error("a message that is too large was sent")
	}
}

// TestWrongSecretNeverMeets: who has another secret, or none, is not there.
func TestWrongSecretNeverMeets(t *testing.T) {
	t.Parallel()
	nodes := testnet.Start(t, 2)
	right := []byte("sixteen bytes or")
	alice := join(t, "alice", Options{Nodes: []string{nodes.URL(0)}, Secret: right})
	eve := join(t, "eve", Options{Nodes: []string{nodes.URL(0)}, Secret: []byte("sixteen bytes of")})
	mallory := join(t, "mallory", Options{Nodes: []string{nodes.URL(1)}})
	bob := join(t, "bob", Options{Nodes: []string{nodes.URL(1)}, Secret: right})
	alice.sees("+bob")
	bob.sees("+alice")
	time.Sleep(time.Second)
	for _, s := range []*someone{eve, mallory} {
		if list := s.list(); len(list) > 0 {
			t.Errorf("%s saw %q", s.opts.Name, list)
		}
	}
}

// TestLeaveLeavesNothing: all goroutines end, and what was sent before arrives.
func TestLeaveLeavesNothing(t *testing.T) {
	nodes := testnet.Start(t, 2)
	alice := join(t, "alice", Options{Nodes: []string{nodes.URL(0), nodes.URL(1)}})
	bob := join(t, "bob", Options{Nodes: []string{nodes.URL(1), nodes.URL(0)}})
	alice.sees("+bob")
	bob.sees("+alice")
	if len(ours()) == 0 {
		t.Error("no goroutine is seen, though there are two rooms")
	}
	p := bob.Peers()[0]
	alice.says("goodbye")
	alice.leave()
	alice.leave()
	bob.sees("alice: goodbye", "-alice")
	if list := bob.list(); list[len(list)-1] != "-alice" {
		t.Errorf("bob saw %q", list)
	}
	if err := p.Send(t.Context(), nil); err == nil {
		t.Error("one can send to a peer that has left")
	}
	if len(bob.Peers()) > 0 {
		t.Error("bob lists who has left")
	}
	bob.leave()
	eventuallyWithin(t, 5*time.Second, "no goroutine is left", func() bool { // Leave has waited for them; the last have to return yet
		return len(ours()) == 0
	})
}

// ours are the goroutines of this package and of its connections, but not that
// of a test.
func ours() []string {
	buf := make([]byte, 4<<20)
	all := strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")
	return slices.DeleteFunc(all, func(s string) bool {
		return strings.Contains(s, "testing.tRunner(") || !strings.Contains(s, "peerserver/peer.") && !strings.Contains(s, "github.com/pion/")
	})
}

// TestProcessDies: nobody says goodbye, and the connection just ends. It is
// over, and is not made anew.
func TestProcessDies(t *testing.T) {
	t.Parallel()
	nodes := testnet.Start(t, 2)
	alice := join(t, "alice", Options{Nodes: []string{nodes.URL(0)}, NoRelay: true})
	bob := join(t, "bob", Options{Nodes: []string{nodes.URL(1)}, NoRelay: true})
	alice.sees("+bob")
	bob.sees("+alice")
	p := bob.connected(t, "alice")
	alice.stopWire()
	eventually(t, "alice has no socket", func() bool {
		alice.Room.mu.Lock()
		defer alice.Room.mu.Unlock()
		return alice.socket == nil
	})
	alice.stopWork()
	bob.sees("-alice")
	if !p.Lost() {
		t.Error("she has said goodbye")
	}
	// Until the node says that she is lost he waits for her, or makes her offers.
	eventuallyWithin(t, 5*2*signalWithin, "bob is done with her", func() bool {
		bob.Room.mu.Lock()
		defer bob.Room.mu.Unlock()
		return bob.running == 0
	})
	if want := []string{"+alice", "-alice"}; !slices.Equal(bob.list(), want) {
		t.Errorf("bob saw %q, want %q", bob.list(), want)
	}
}

// TestSlowReaderHearsAll: what was sent before a goodbye is heard, though it
// comes after.
func TestSlowReaderHearsAll(t *testing.T) {
	nodes := testnet.Start(t, 1)
	heard := make(chan byte, 100)
	bob := join(t, "bob", Options{Nodes: []string{nodes.URL(0)}, OnMessage: func(_ *Peer, b []byte) {
		time.Sleep(5 * time.Millisecond)
		heard <- b[0]
	}})
	alice := join(t, "alice", Options{Nodes: []string{nodes.URL(0)}})
	alice.sees("+bob")
	for i := range cap(heard) {
		if err := alice.Peers()[0].Send(t.Context(), []byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	alice.leave()
	bob.sees("-alice")
	if len(heard) != cap(heard) {
		t.Errorf("bob heard %d of %d", len(heard), cap(heard))
	}
}

// TestNodesThatHang: one that says nothing and one that is not there do not
// keep anybody from the third.
func TestNodesThatHang(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	nodes := testnet.Start(t, 1)
	began := time.Now()
	r := join(t, "alice", Options{Nodes: []string{"ws://" + l.Addr().String(), "ws://127.0.0.1:1", nodes.URL(0)}})
	if d := time.Since(began); d >= stepWithin { // what the first has
		t.Errorf("it took %v", d)
	}
	r.leave()
}

// TestNoNode says what is wrong with each.
func TestNoNode(t *testing.T) {
	for _, nodes := range [][]string{nil, {"http://127.0.0.1"}, {"ws://127.0.0.1:1/path"}, {"ws://127.0.0.1:1", "ws://127.0.0.1:2"}} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		if _, err := Join(ctx, "test", Options{Nodes: nodes}); err == nil {
			t.Errorf("joined on %q", nodes)
		}
		cancel()
	}
}
