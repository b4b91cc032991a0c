package relay

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/peerservers/peerserver/protocol"
)

func testKey(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

// raw is a node that speaks the handshake and then sends what it likes.
type raw struct {
	sc   *secureConn
	app  uint32 // the honest node's number for testApp
	seq  uint64
	fail []*protocol.Fail
	all  []*protocol.Frame // that were read
}

// attack links a raw node to the first node of the scene and shares testApp.
func attack(sc *scene) *raw {
	sc.t.Helper()
	u, _ := protocol.ParseLinkURL(sc.nodes[0].url)
	conn, err := sc.net.dialer("ws://10.9.9.9:1").Dial(sc.t.Context(), u)
	if err != nil {
		sc.t.Fatal(err)
	}
	id, err := newIdentity(testKey(99))
	if err != nil {
		sc.t.Fatal(err)
	}
	s, _, err := handshake(sc.t.Context(), conn, protocol.Dialler, id, nil, u.String())
	if err != nil {
		sc.t.Fatal(err)
	}
	r := &raw{sc: s}
	tag := testApp.Tag(s.hash, protocol.Dialler)
	r.send(sc.t, &protocol.Frame{Body: &protocol.Frame_Resume{Resume: &protocol.Resume{Epoch: 7}}},
		&protocol.Frame{Body: &protocol.Frame_Interest{Interest: &protocol.Interest{Tags: []*protocol.Interest_Tag{{Tag: tag[:], App: 5}}}}})
	for r.app == 0 {
		r.read(sc.t)
	}
	return r
}

func (r *raw) send(t *testing.T, frames ...*protocol.Frame) {
	t.Helper()
	b, err := proto.Marshal(&protocol.Packet{Frames: frames})
	if err == nil {
		err = r.sc.writePacket(b)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (r *raw) sequenced(t *testing.T, f *protocol.Frame) {
	t.Helper()
	r.seq++
	f.Seq = r.seq
	r.send(t, f)
}

func (r *raw) read(t *testing.T) {
	t.Helper()
	b, err := r.sc.readPacket()
	if err != nil {
		t.Fatal(err)
	}
	var p protocol.Packet
	if err := proto.Unmarshal(b, &p); err != nil {
		t.Fatal(err)
	}
	r.all = append(r.all, p.Frames...)
	for _, f := range p.Frames {
		if s := f.GetSwarm(); s != nil && s.Mine != 0 {
			r.app = s.Mine
		}
		if x := f.GetFail(); x != nil {
			r.fail = append(r.fail, x)
		}
	}
}

// TestFloodOfOffers: a node that sends far more offers than its members could
// make is refused most of them, with the code that says so.
func TestFloodOfOffers(t *testing.T) {
	play(t, 1, func(sc *scene) {
		a := sc.nodes[0].join("a")
		r := attack(sc)
		r.sequenced(t, swarmFrame(&protocol.Swarm{App: r.app, Mine: 5, Members: 1}))
		const n = 10_000
		for i := range n / 50 {
			f := &protocol.Offers{App: r.app, From: []byte("evil")}
			for k := range 50 {
				f.Offers = append(f.Offers, &protocol.Offers_Offer{Id: fmt.Append(nil, i*50+k), Payload: []byte("x"), To: testApp.MemberHash("a").Bytes()})
			}
			r.sequenced(t, &protocol.Frame{Body: &protocol.Frame_Offers{Offers: f}})
		}
		sc.wait(time.Second)
		if got := len(a.of(KindOffer, "evil")); got > 3*protocol.AppOffers*protocol.AppOffersBurst {
			t.Errorf("%d of %d offers came through", got, n)
		}
		for len(r.fail) == 0 {
			r.read(t)
		}
		if f := r.fail[0]; f.Code != uint32(protocol.CodeRate) || f.RetryAfter == 0 {
			t.Errorf("refused with %v, retry after %d ms; want rate and a time", protocol.Code(f.Code), f.RetryAfter)
		}
		r.sc.close(1000)
	})
}

// TestFloodOfTags: a node that asks for ever more apps is read more slowly, and
// nobody else is.
func TestFloodOfTags(t *testing.T) {
	play(t, 2, func(sc *scene) {
		sc.meet(sc.nodes...)
		a, b := sc.nodes[0].join("a"), sc.nodes[1].join("b")
		sc.wait(time.Second)
		r := attack(sc)
		start := time.Now()
		const packets = 700 // of which the network holds 256, and the first 200 are saved up
		go func() {
			for {
				if _, err := r.sc.readPacket(); err != nil {
					return
				}
			}
		}()
		for i := range packets {
			f := new(protocol.Interest)
			for k := range 1000 {
				tag := binary.BigEndian.AppendUint64(make([]byte, 8, protocol.TagSize), uint64(i*1000+k))
				f.Tags = append(f.Tags, &protocol.Interest_Tag{Tag: tag, App: 1})
			}
			r.send(t, &protocol.Frame{Body: &protocol.Frame_Interest{Interest: f}})
			if i%100 == 0 {
				before := len(b.of(KindDirect, "a"))
				a.m.Send(Message{Kind: KindDirect, To: "b", Payload: []byte("x")})
				sc.wait(100 * time.Millisecond)
				if len(b.of(KindDirect, "a")) == before {
					t.Fatal("others wait for the one that floods")
				}
			}
		}
		if took := time.Since(start); took < (packets-256-200)*1000*time.Second/protocol.LinkFrames {
			t.Errorf("%d tags were taken within %v: faster than the quota", (packets-256)*1000, took)
		}
		var l *link
		for _, k := range sc.nodes[0].r.links {
			if k.node == protocol.NodeID(testKey(99).Public().(ed25519.PublicKey)) {
				l = k
			}
		}
		if l == nil || l.bytes > 2*protocol.ResendBytes {
			t.Errorf("the flooding link is gone or holds more than its bound")
		}
		r.sc.close(1000)
	})
}

// TestGarbageInsideALink: frames that make no sense end the connection or are
// skipped; members and other links do not notice.
func TestGarbageInsideALink(t *testing.T) {
	long := make([]byte, 500)
	garbage := map[string]*protocol.Frame{
		"no body":              {},
		"unknown app":          {Body: &protocol.Frame_Offers{Offers: &protocol.Offers{App: 4000, From: []byte("x")}}},
		"no from":              {Body: &protocol.Frame_Offers{Offers: &protocol.Offers{App: 1}}},
		"long from":            {Body: &protocol.Frame_Offers{Offers: &protocol.Offers{App: 1, From: long}}},
		"empty offer":          {Body: &protocol.Frame_Offers{Offers: &protocol.Offers{App: 1, From: []byte("x"), Offers: []*protocol.Offers_Offer{{}}}}},
		"long offer id":        {Body: &protocol.Frame_Offers{Offers: &protocol.Offers{App: 1, From: []byte("x"), Offers: []*protocol.Offers_Offer{{Id: long}}}}},
		"odd hash":             {Body: &protocol.Frame_Offers{Offers: &protocol.Offers{App: 1, From: []byte("x"), Offers: []*protocol.Offers_Offer{{Id: []byte("i"), To: []byte("1")}}}}},
		"signal to nobody":     {Body: &protocol.Frame_Signal{Signal: &protocol.Signal{App: 1, To: []byte("nobody"), From: []byte("x"), Kind: protocol.Signal_KIND_DIRECT}}},
		"signal of no kind":    {Body: &protocol.Frame_Signal{Signal: &protocol.Signal{App: 1, To: []byte("a"), From: []byte("x")}}},
		"unasked answer":       {Body: &protocol.Frame_Signal{Signal: &protocol.Signal{App: 1, To: []byte("a"), From: []byte("x"), Ref: []byte("r"), Kind: protocol.Signal_KIND_ANSWER}}},
		"fail of nothing":      {Body: &protocol.Frame_Fail{Fail: &protocol.Fail{Seq: 1 << 60}}},
		"presence without id":  {Body: &protocol.Frame_Presence{Presence: &protocol.Presence{App: 1, Joins: []*protocol.Presence_Join{{}}, Leaves: []*protocol.Presence_Leave{{}}}}},
		"short tag":            {Body: &protocol.Frame_Interest{Interest: &protocol.Interest{Tags: []*protocol.Interest_Tag{{Tag: []byte{1}, App: 9}}}}},
		"records of nobody":    {Body: &protocol.Frame_Nodes{Nodes: &protocol.Nodes{App: 1, Records: []*protocol.SignedRecord{{}, {Key: long}}}}},
		"resume twice":         {Body: &protocol.Frame_Resume{Resume: &protocol.Resume{Epoch: 9, PeerEpoch: 9, Seen: 1 << 62}}},
		"swarm of nothing":     {Body: &protocol.Frame_Swarm{Swarm: &protocol.Swarm{App: 77, Mine: 3, Members: 1 << 31, Listed: true}}},
		"list that is a lie":   {Body: &protocol.Frame_Swarm{Swarm: &protocol.Swarm{App: 1, Mine: 5, Members: 3, Listed: true, List: []*protocol.Swarm_Member{{Id: long}, {}, {Id: []byte("12345678")}}}}},
		"not served":           {Body: &protocol.Frame_Swarm{Swarm: &protocol.Swarm{App: 1}}},
		"bye of unknown code":  {Body: &protocol.Frame_Bye{Bye: &protocol.Bye{Code: 99, Drain: 1 << 31}}},
		"publish of nobody":    {Body: &protocol.Frame_Publish{Publish: &protocol.Publish{App: 1, Age: 1 << 31}}},
		"claim of a long id":   {Body: &protocol.Frame_Claim{Claim: &protocol.Claim{App: 1, Name: long, Token: long[:32]}}},
		"claim without token":  {Body: &protocol.Frame_Claim{Claim: &protocol.Claim{App: 1, Name: []byte("a")}}},
		"claim of a member":    {Body: &protocol.Frame_Claim{Claim: &protocol.Claim{App: 1, Name: []byte("a"), Token: long[:32], Made: -1, Settled: true}}},
		"claim in no app":      {Body: &protocol.Frame_Claim{Claim: &protocol.Claim{App: 99, Name: []byte("a"), Token: long[:32]}}},
		"find of a long id":    {Body: &protocol.Frame_Find{Find: &protocol.Find{App: 1, Name: long}}},
		"find of nobody":       {Body: &protocol.Frame_Find{Find: &protocol.Find{App: 1, Name: []byte("nobody")}}},
		"holds what none asks": {Body: &protocol.Frame_Holds{Holds: &protocol.Holds{App: 1, Name: []byte("nobody"), Held: true}}},
		"holds a member":       {Body: &protocol.Frame_Holds{Holds: &protocol.Holds{App: 1, Name: []byte("a"), Held: true, Claim: 3}}},
	}
	for name, f := range garbage {
		t.Run(name, func(t *testing.T) {
			play(t, 2, func(sc *scene) {
				sc.meet(sc.nodes...)
				a, b := sc.nodes[0].join("a"), sc.nodes[1].join("b")
				sc.wait(time.Second)
				r := attack(sc)
				f := proto.CloneOf(f)
				r.sequenced(t, f)
				sc.wait(time.Second)
				a.announce(3)
				b.announce(3)
				sc.wait(2 * time.Second)
				if len(a.of(KindOffer, "b")) == 0 || len(b.of(KindOffer, "a")) == 0 {
					t.Error("a and b do not meet any more")
				}
				for _, e := range a.events {
					if e.From != "b" {
						t.Errorf("a got %+v", e)
					}
				}
				r.sc.close(1000)
			})
		})
	}
}

// FuzzPacket gives any bytes to a link as if a node with a good handshake sent
// them.
func FuzzPacket(f *testing.F) {
	for _, b := range []*protocol.Packet{
		{Ack: 3, Frames: []*protocol.Frame{{Seq: 1, Body: &protocol.Frame_Swarm{Swarm: &protocol.Swarm{App: 1, Mine: 5, Members: 2}}}}},
		{Frames: []*protocol.Frame{{Seq: 2, Body: &protocol.Frame_Offers{Offers: &protocol.Offers{App: 1, From: []byte("x"), Offers: []*protocol.Offers_Offer{{Id: []byte("i"), Payload: []byte("p")}}}}}}},
		{Frames: []*protocol.Frame{{Body: &protocol.Frame_Nodes{Nodes: &protocol.Nodes{Records: []*protocol.SignedRecord{{Key: make([]byte, 32)}}}}}}},
		{Frames: []*protocol.Frame{{Seq: 9, Body: &protocol.Frame_Presence{Presence: &protocol.Presence{App: 1, Snapshot: true, Joins: []*protocol.Presence_Join{{Peer: []byte("p")}}}}}}},
		{Frames: []*protocol.Frame{{Seq: 3, Body: &protocol.Frame_Claim{Claim: &protocol.Claim{App: 1, Name: []byte("c"), Token: make([]byte, 32), Made: 9}}}}},
		{Frames: []*protocol.Frame{{Seq: 3, Body: &protocol.Frame_Holds{Holds: &protocol.Holds{App: 1, Name: []byte("c"), Held: true, Claim: 1}}}}},
		{Frames: []*protocol.Frame{{Seq: 4, Body: &protocol.Frame_Find{Find: &protocol.Find{App: 1, Name: []byte("c")}}}}},
		{Frames: []*protocol.Frame{{Seq: 4, Body: &protocol.Frame_Holds{Holds: &protocol.Holds{App: 1, Name: []byte("d"), Held: true}}}}},
		{Frames: []*protocol.Frame{{Body: &protocol.Frame_Ping{Ping: &protocol.Ping{Nonce: 7, Answer: true}}}, {Body: &protocol.Frame_Ping{Ping: &protocol.Ping{Nonce: 1}}}}},
		{Frames: []*protocol.Frame{{Body: &protocol.Frame_TurnKeys{TurnKeys: &protocol.TurnKeys{Keys: []*protocol.TurnKeys_Key{{Day: today(), Key: make([]byte, 32)}, {}}}}}}},
		{Frames: []*protocol.Frame{{Body: &protocol.Frame_Probe{Probe: &protocol.Probe{Nonce: 7, Outcome: 1}}}}},
		{Frames: []*protocol.Frame{{Body: &protocol.Frame_Probe{Probe: &protocol.Probe{Nonce: 1, StunPort: 3478}}}, {Body: &protocol.Frame_Probe{Probe: &protocol.Probe{Nonce: 1, Url: "ws://10.9.9.9:8787"}}}}},
	} {
		raw, err := proto.Marshal(b)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	r, err := New(Config{Key: testKey(1), Seed: 1, AllowPrivate: true, TrySTUN: func(context.Context, netip.AddrPort) bool { return false }})
	if err != nil {
		f.Fatal(err)
	}
	m, err := r.Join(testApp, Joining{ID: "a", Sink: &client{}, TakesOffers: true, Present: true, WantsPresence: true, Subscriber: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		l := r.newLink(protocol.NodeID{1})
		w := &wire{l: l, sc: &secureConn{hash: make([]byte, 32)}, wake: make(chan struct{}, 1), done: make(chan struct{}), resumed: true}
		l.w = w
		l.asked, w.pingNonce, w.remote = &question{w: w, nonce: 7, answer: make(chan protocol.Probe_Outcome, 1)}, 7, netip.MustParseAddr("10.9.9.9")
		w.tags = map[[protocol.TagSize]byte]*swarm{}
		m.s.mu.Lock()
		m.s.bind(l).theirs = 5
		m.s.mu.Unlock()
		c, err := r.Claim(testApp, Claiming{Joining: Joining{ID: "c", Sink: &client{}}, Token: [32]byte{1}})
		if err == nil {
			c.Send(Message{Kind: KindDirect, To: "d", Payload: []byte("hi"), Wait: true})
		}
		var p protocol.Packet
		if proto.Unmarshal(raw, &p) == nil {
			for _, fr := range p.Frames {
				if w.frame(fr) != nil {
					break
				}
			}
			l.mu.Lock()
			l.acknowledge(p.Ack)
			l.mu.Unlock()
			w.packet(nil)
		}
		for _, k := range l.turnKeys {
			if len(l.turnKeys) > maxTurnKeys || len(k.Key) != turnKeySize {
				t.Fatalf("%d keys, one of %d bytes", len(l.turnKeys), len(k.Key))
			}
		}
		l.lose(KindLost)
		if c != nil {
			c.Leave()
		}
		r.sweepNames()
	})
}
