package relay

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

const (
	reached = protocol.Probe_OUTCOME_REACHED
	failed  = protocol.Probe_OUTCOME_FAILED
	refused = protocol.Probe_OUTCOME_REFUSED
)

// probing is a scene in which dials of Probes are counted, and a STUN server is
// taken to answer at one port.
type probing struct {
	*scene
	mu     sync.Mutex
	dialed []netip.Addr
	stuns  []netip.AddrPort
	now    int // tries of STUN
	most   int
	slow   time.Duration // that a try of STUN takes
}

const answeringSTUN = 3478

func playProbes(t *testing.T, n int, f func(sc *probing)) {
	play(t, 0, func(sc *scene) {
		p := &probing{scene: sc}
		sc.configure = func(_ *tnode, cfg *Config) {
			cfg.Dialer = &countedDialer{cfg.Dialer, p}
			cfg.TrySTUN = p.trySTUN
		}
		for range n {
			sc.start()
		}
		f(p)
	})
}

type countedDialer struct {
	Dialer
	p *probing
}

func (d *countedDialer) DialAt(ctx context.Context, url protocol.LinkURL, at netip.Addr) (Conn, error) {
	d.p.mu.Lock()
	d.p.dialed = append(d.p.dialed, at)
	d.p.mu.Unlock()
	return d.Dialer.DialAt(ctx, url, at)
}

func (p *probing) trySTUN(ctx context.Context, to netip.AddrPort) bool {
	p.mu.Lock()
	p.stuns = append(p.stuns, to)
	p.now++
	p.most = max(p.most, p.now)
	p.mu.Unlock()
	sleepFor(ctx, p.slow)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now--
	return to.Port() == answeringSTUN
}

func sleepFor(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// probe has a node ask another one, and waits.
func (nd *tnode) probe(other *tnode, url string, stunPort uint16) protocol.Probe_Outcome {
	nd.sc.t.Helper()
	outcome, err := nd.r.Probe(nd.sc.t.Context(), other.r.ID(), url, stunPort)
	if err != nil {
		nd.sc.t.Fatalf("probe of %q, %d: %v", url, stunPort, err)
	}
	return outcome
}

// TestProbe: who dialled the link has reached its other end; the other one tries,
// and the link that there is stays.
func TestProbe(t *testing.T) {
	playProbes(t, 2, func(sc *probing) {
		a, b := sc.nodes[0], sc.nodes[1]
		sc.net.setDelay(20 * time.Millisecond)
		a.finder.know(b.finder.own)
		sc.wait(time.Second)
		before := [2]*wire{a.link(b).w, b.link(a).w}
		if got := b.probe(a, b.url, 0); got != reached || len(sc.dialed) != 0 {
			t.Errorf("b, which a has dialled, is %v with %d dials, want reached with none", got, len(sc.dialed))
		}
		if got := a.probe(b, a.url, 0); got != reached || len(sc.dialed) != 1 {
			t.Errorf("a is %v with %d dials, want reached with one", got, len(sc.dialed))
		}
		sc.wait(time.Minute)
		if after := [2]*wire{a.link(b).w, b.link(a).w}; after != before || sc.net.links(a.url, b.url) != 1 {
			t.Errorf("the link is another one after a try: %v, %d connections", after != before, sc.net.links(a.url, b.url))
		}
		if got := a.probe(b, "ws://10.0.0.1:8788", 0); got != failed {
			t.Errorf("a port where nobody listens is %v, want failed", got)
		}
		if got := a.probe(b, "", answeringSTUN); got != reached {
			t.Errorf("STUN that answers is %v", got)
		}
		if got := b.probe(a, "", answeringSTUN+1); got != failed {
			t.Errorf("STUN that does not is %v", got)
		}
		if sc.stuns[0].Addr().String() != "10.0.0.1" || sc.stuns[1].Addr().String() != "10.0.0.2" {
			t.Errorf("STUN was tried at %v", sc.stuns)
		}
	})
}

// TestProbeOfAnother: at the address answers a node, but not the one that asks.
func TestProbeOfAnother(t *testing.T) {
	playProbes(t, 3, func(sc *probing) {
		a, b, c := sc.nodes[0], sc.nodes[1], sc.nodes[2]
		const url = "ws://10.0.0.1:9999"
		defer sc.net.listen(url, func(conn Conn) {
			c.r.handles <- struct{}{}
			c.r.accept(sc.t.Context(), conn)
		})()
		a.finder.know(b.finder.own)
		sc.wait(time.Second)
		if got := a.probe(b, url, 0); got != failed {
			t.Errorf("another node's port is %v, want failed", got)
		}
		if n := len(c.r.Neighbours()); n != 0 {
			t.Errorf("the other node has %d links of it", n)
		}
	})
}

// TestProbeSilent: what takes connections and says nothing has failed in time.
func TestProbeSilent(t *testing.T) {
	playProbes(t, 2, func(sc *probing) {
		a, b := sc.nodes[0], sc.nodes[1]
		const url = "ws://10.0.0.1:9999"
		defer sc.net.listen(url, func(conn Conn) { _, _ = conn.Read() })()
		a.finder.know(b.finder.own)
		sc.wait(time.Second)
		start := time.Now()
		if got := a.probe(b, url, 0); got != failed || time.Since(start) > protocol.ProbeTime+time.Second {
			t.Errorf("%v after %v, want failed after %v", got, time.Since(start), protocol.ProbeTime)
		}
	})
}

// TestProbeAimed: a node that asks for anything but its own address is refused,
// and nobody is dialled.
func TestProbeAimed(t *testing.T) {
	playProbes(t, 2, func(sc *probing) {
		sc.nodes[0].join("a")
		r := attack(sc.scene)
		for i, q := range []*protocol.Probe{
			{Url: sc.nodes[0].url},
			{Url: sc.nodes[1].url},
			{Url: "ws://10.9.9.8:8787"},
			{Url: "wss://victim.example"},
			{Url: "ws://127.0.0.1:8787"},
			{Url: "ws://[::ffff:127.0.0.1]:8787"},
			{Url: "ws://[::1]:8787"},
			{Url: "ws://10.9.9.9:22"},
			{Url: "ws://10.9.9.9:1"},
			{Url: "http://10.9.9.9:8787"},
			{Url: "ws://10.9.9.9:8787/path"},
			{Url: "ws://user@10.9.9.9:8787"},
			{Url: "ws://10.9.9.9:8787", StunPort: 3478},
			{},
			{StunPort: 53},
			{StunPort: 70_000},
			{StunPort: 65536 + 3478},
		} {
			q.Nonce = uint64(i + 1)
			if got := r.ask(t, q); got != refused {
				t.Errorf("%q, %d: %v, want refused", q.Url, q.StunPort, got)
			}
		}
		for i, q := range []*protocol.Probe{{Url: "ws://10.9.9.9:8787"}, {StunPort: 3479}} { // its own
			if q.Nonce = uint64(100 + i); r.ask(t, q) != failed {
				t.Errorf("%q, %d: want failed", q.Url, q.StunPort)
			}
		}
		for _, at := range sc.dialed { // of a name, which the dialer refuses
			if at.String() != "10.9.9.9" {
				t.Errorf("%v was dialled", at)
			}
		}
		if len(sc.dialed) != 2 || len(sc.stuns) != 1 {
			t.Errorf("%d dials, %d tries of STUN", len(sc.dialed), len(sc.stuns))
		}
		r.sc.close(1000)
	})
}

// ask sends a question and reads until its answer.
func (r *raw) ask(t *testing.T, q *protocol.Probe) protocol.Probe_Outcome {
	t.Helper()
	r.send(t, &protocol.Frame{Body: &protocol.Frame_Probe{Probe: q}})
	for {
		for _, f := range r.all {
			if p := f.GetProbe(); p != nil && p.Nonce == q.Nonce {
				return p.Outcome
			}
		}
		r.all = nil
		r.read(t)
	}
}

// TestProbeFlood: of ten thousand questions as many are tried as are allowed, one
// after the other.
func TestProbeFlood(t *testing.T) {
	playProbes(t, 1, func(sc *probing) {
		sc.nodes[0].join("a")
		sc.slow = time.Second
		r := attack(sc.scene)
		const n = 10_000
		for i := range n {
			r.send(t, &protocol.Frame{Body: &protocol.Frame_Probe{Probe: &protocol.Probe{Nonce: uint64(i + 1), StunPort: 3478}}})
			time.Sleep(time.Minute / n)
		}
		sc.wait(2 * time.Second)
		// The saved up ones, and those of the minute.
		if len(sc.stuns) < protocol.ProbesPerLink || len(sc.stuns) > 2*protocol.ProbesPerLink || sc.most != 1 {
			t.Errorf("%d tries, %d at once", len(sc.stuns), sc.most)
		}
		if up := sc.nodes[0].r.Stats().Links; up != 1 {
			t.Errorf("%d links: the node is closed for it", up)
		}
		r.sc.close(1000)
	})
}

// TestProbesAtOnce: all links together have a bound too.
func TestProbesAtOnce(t *testing.T) {
	playProbes(t, 0, func(sc *probing) {
		sc.slow = time.Second
		a := sc.start()
		var asking sync.WaitGroup
		outcomes := make(chan protocol.Probe_Outcome, 2*maxProbing)
		for range 2 * maxProbing {
			b := sc.start()
			b.finder.know(a.finder.own)
		}
		sc.wait(2 * time.Second)
		for _, b := range sc.nodes[1:] {
			asking.Go(func() { outcomes <- b.probe(a, "", answeringSTUN) })
		}
		asking.Wait()
		close(outcomes)
		count := make(map[protocol.Probe_Outcome]int)
		for o := range outcomes {
			count[o]++
		}
		if sc.most != maxProbing || count[reached] != maxProbing || count[refused] != maxProbing {
			t.Errorf("%d at once, %v; want %d", sc.most, count, maxProbing)
		}
	})
}

// TestProbeAnswers: an answer counts for the question that is open on its link.
func TestProbeAnswers(t *testing.T) {
	playProbes(t, 1, func(sc *probing) {
		nd := sc.nodes[0]
		nd.join("a")
		r := attack(sc.scene)
		answer := func(nonce uint64, o protocol.Probe_Outcome) {
			r.send(t, &protocol.Frame{Body: &protocol.Frame_Probe{Probe: &protocol.Probe{Nonce: nonce, Outcome: o}}})
		}
		for nonce := range uint64(100) { // without a question
			answer(nonce, reached)
		}
		evil := protocol.NodeID(testKey(99).Public().(ed25519.PublicKey))
		type result struct {
			outcome protocol.Probe_Outcome
			err     error
		}
		results := make(chan result, 2)
		ask := func(ctx context.Context) {
			o, err := nd.r.Probe(ctx, evil, nd.url, 0)
			results <- result{o, err}
		}
		go ask(sc.t.Context())
		sc.wait(time.Second)
		if _, err := nd.r.Probe(sc.t.Context(), evil, nd.url, 0); code(err) != protocol.CodeRate {
			t.Errorf("a second question at once: %v", err)
		}
		nonce := r.questioned(t)
		answer(nonce+1, reached)
		answer(0, reached)
		answer(nonce, 77)
		sc.wait(time.Second)
		if len(results) != 0 {
			t.Errorf("taken for an answer: %v", <-results)
		}
		answer(nonce, failed)
		answer(nonce, reached)
		sc.wait(time.Second)
		if len(results) != 1 {
			t.Fatal("the answer is not taken")
		}
		if got := <-results; got.err != nil || got.outcome != failed {
			t.Errorf("%v, %v, want failed", got.outcome, got.err)
		}
		go ask(sc.t.Context())
		if got := <-results; got.err == nil {
			t.Errorf("no answer is %v", got.outcome)
		}
		go ask(sc.t.Context())
		sc.wait(time.Second)
		r.sc.close(1000)
		if got := <-results; code(got.err) != protocol.CodeNodeGone {
			t.Errorf("a link that ends: %v", got.err)
		}
		if _, err := nd.r.Probe(sc.t.Context(), protocol.NodeID{1}, nd.url, 0); code(err) != protocol.CodeNodeGone {
			t.Errorf("no link: %v", err)
		}
	})
}

// questioned reads until a question, and returns its nonce.
func (r *raw) questioned(t *testing.T) uint64 {
	t.Helper()
	for {
		for _, f := range r.all {
			if p := f.GetProbe(); p != nil && p.Outcome == 0 {
				r.all = nil
				return p.Nonce
			}
		}
		r.read(t)
	}
}

// TestProbePublic: without AllowPrivate no private address is tried.
func TestProbePublic(t *testing.T) {
	playProbes(t, 0, func(sc *probing) {
		before := sc.configure
		sc.configure = func(nd *tnode, cfg *Config) {
			before(nd, cfg)
			cfg.AllowPrivate = nd.i != 1
		}
		a, b := sc.start(), sc.start()
		a.finder.know(b.finder.own)
		sc.wait(time.Second)
		if got := a.probe(b, a.url, 0); got != refused {
			t.Errorf("a private address: %v, want refused", got)
		}
		if got := a.probe(b, "", answeringSTUN); got != refused {
			t.Errorf("a private address over STUN: %v, want refused", got)
		}
		if len(sc.dialed)+len(sc.stuns) > 0 {
			t.Errorf("tried: %v, %v", sc.dialed, sc.stuns)
		}
	})
}

// The other end of a link that came over a proxy is where the request says.
func TestRemoteAddrOfRequest(t *testing.T) {
	got := make(chan netip.Addr, 1)
	mux := http.NewServeMux()
	mux.HandleFunc(linkPath, func(w http.ResponseWriter, r *http.Request) {
		r.RemoteAddr = "8.1.1.1:0"
		c, err := acceptWS(w, r)
		if err != nil {
			t.Error(err)
			return
		}
		got <- remoteIP(c)
		c.Close(1000)
	})
	node := serve(t, false, mux)
	c := node.dial(t)
	if at := <-got; at.String() != "8.1.1.1" {
		t.Errorf("the link is from %v", at)
	}
	if at := remoteIP(c); at.String() != "127.0.0.1" {
		t.Errorf("the link is to %v", at)
	}
}

// A name is dialled at an address that it has, and at no other.
func TestDialAt(t *testing.T) {
	other := newTestIdentity(t, "other")
	node := listenWS(t, false, func(c Conn, _ error) {
		if c != nil {
			honest(protocol.Responder, other, nil, "")(c)
			c.Close(1000)
		}
	})
	node.policy.Resolver = nameServer(t, []string{"127.0.0.9", "127.0.0.1"})
	l, err := net.Listen("tcp", fmt.Sprint("127.0.0.9:", node.url.Port)) // where it would be dialled first
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d := NewDialer(node.policy)
	here, next := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")
	for _, tt := range []struct {
		host string
		at   netip.Addr
		want protocol.Code
	}{
		{"127.0.0.1", here, protocol.CodeOK},
		{"127.0.0.1", next, protocol.CodeRefused},
		{"node.example", here, protocol.CodeOK},
		{"node.example", next, protocol.CodeRefused},
	} {
		url := protocol.LinkURL{Host: tt.host, Port: node.url.Port}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		c, err := d.DialAt(ctx, url, tt.at)
		cancel()
		if code(err) != tt.want || (err == nil) != (tt.want == protocol.CodeOK) {
			t.Errorf("%s at %v: %v", tt.host, tt.at, err)
		}
		if err == nil {
			if who, err := greet(c, newTestIdentity(t, "me")); err != nil || who != other.node {
				t.Errorf("%s: %v, %v", tt.host, who, err)
			}
			c.Close(1000)
		}
	}
	public := NewDialer(DialPolicy{Resolver: node.policy.Resolver})
	if _, err := public.DialAt(t.Context(), node.url, here); code(err) != protocol.CodeRefused {
		t.Errorf("an address that is not public: %v", err)
	}
	if _, err := d.DialAt(t.Context(), protocol.LinkURL{Host: "node.example", Port: 22}, here); code(err) != protocol.CodeRefused {
		t.Errorf("port 22: %v", err)
	}
}
