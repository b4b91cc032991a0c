package native_test

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/node/door/native"
	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/relay"
)

// alone is the door alone, with quotas, which a net of nodes on loopback has not.
type alone struct {
	url   string
	host  *door.Host
	relay *relay.Relay
	door  *native.Door
	stop  func() // the door; the rest stops with the test
	asked atomic.Int64
}

// ice are servers with credentials that name the peer and are new each time.
func (a *alone) ice(peer []byte, _ string) *protocol.IceServers {
	return &protocol.IceServers{Ttl: 3600, Servers: []*protocol.IceServers_Server{
		{Urls: []string{"stun:192.0.2.1:3478"}},
		{Urls: []string{"turn:192.0.2.1:3478?transport=udp"}, Username: fmt.Sprintf("%d:%x", a.asked.Add(1), peer), Credential: "secret"},
	}}
}

func startAlone(t *testing.T, quota door.Quota, rc relay.Config, relayData int) *alone {
	t.Helper()
	_, rc.Key, _ = ed25519.GenerateKey(nil)
	r, err := relay.New(rc)
	if err != nil {
		t.Fatal(err)
	}
	h := door.NewHost(door.Config{Quota: quota})
	a := new(alone)
	d := native.New(native.Config{
		ICE:  a.ice,
		Host: h, Relay: r, Key: rc.Key, IsOwn: func(string, string) bool { return true },
		Nodes: func() []*protocol.SignedRecord { return []*protocol.SignedRecord{{}} }, RelayData: relayData,
	})
	sockets := http.NewServeMux()
	d.Register(sockets, http.NewServeMux())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	front := h.Front(l, sockets)
	ctx, stop := context.WithCancel(context.Background())
	var parts, doors sync.WaitGroup
	for _, serve := range []func(context.Context) error{r.Serve, h.Serve} {
		parts.Go(func() {
			if err := serve(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	inner, stopDoor := context.WithCancel(ctx)
	doors.Go(func() {
		if err := d.Serve(inner); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		front.Close()
		stop()
		parts.Wait()
		doors.Wait()
		stopDoor()
	})
	a.url, a.host, a.relay, a.door = "ws://"+l.Addr().String(), h, r, d
	a.stop = func() {
		stopDoor()
		doors.Wait()
	}
	return a
}

// table is what docs/protocol.md says of refusals: code and retry_after.
func table(t *testing.T) map[string]bool {
	t.Helper()
	b, err := os.ReadFile("../../../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := make(map[string]bool)
	for line := range strings.Lines(string(b)) {
		if cells := strings.Split(strings.TrimSpace(line), " | "); len(cells) == 3 && strings.HasPrefix(cells[0], "| `") {
			rows[strings.Trim(cells[0], "| `")+" "+strings.TrimSuffix(cells[2], " |")] = true
		}
	}
	return rows
}

// Every refusal has its code, and says when to try again if that helps, as the
// document has it.
func TestRefusals(t *testing.T) {
	t.Parallel()
	const computed = 1 << 31
	documented := table(t)
	many := func(c *client, ask func() *protocol.ToPeer) *protocol.ToPeer {
		for range 1000 {
			if m := ask(); m.GetRefused() != nil {
				return m
			}
		}
		return nil
	}
	company := func(c *client) {
		for n := range byte(7) {
			enters(c.t, c.url, n+100, chess)
		}
	}
	stranger := protocol.Member{Session: protocol.Session{1}}.Bytes()
	quota := door.Quota{Members: 2, MessageBurst: 200, Messages: 50}
	for name, q := range map[string]struct {
		code  protocol.Code
		retry uint32
		ask   func(c *client) *protocol.ToPeer
	}{
		"no login":          {protocol.CodeDenied, 0, func(c *client) *protocol.ToPeer { return dial(c.t, c.url, 9).join(chess) }},
		"a second login":    {protocol.CodeMalformed, 0, (*client).login},
		"no such request":   {protocol.CodeMalformed, 0, func(c *client) *protocol.ToPeer { return c.ask(&protocol.ToNode{}) }},
		"a wrong signature": {protocol.CodeSignature, 0, func(c *client) *protocol.ToPeer { n := dial(c.t, c.url, 9); n.asked.Nonce[0] ^= 1; return n.login() }},
		"no presence": {protocol.CodeMalformed, 0, func(c *client) *protocol.ToPeer {
			return c.ask(&protocol.ToNode{Body: &protocol.ToNode_Join{Join: &protocol.Join{App: chess[:]}}})
		}},
		"no envelope": {protocol.CodeTooLarge, 0, func(c *client) *protocol.ToPeer { return c.send(c.member().Bytes(), nil) }},
		"an empty broadcast": {protocol.CodeTooLarge, 0, func(c *client) *protocol.ToPeer {
			return c.ask(&protocol.ToNode{Body: &protocol.ToNode_Broadcast{Broadcast: &protocol.Broadcast{App: chess[:], Session: c.session[:]}}})
		}},
		"no such member":     {protocol.CodeUnknownPeer, 0, func(c *client) *protocol.ToPeer { return c.send(stranger, c.envelope(c, 1, "x")) }},
		"not joined":         {protocol.CodeUnknownPeer, 0, func(c *client) *protocol.ToPeer { c.session[0]++; return c.broadcast(1, "x") }},
		"no receiver":        {protocol.CodeMalformed, 0, func(c *client) *protocol.ToPeer { return c.send([]byte("short"), c.envelope(c, 1, "x")) }},
		"data where none is": {protocol.CodeDenied, 0, func(c *client) *protocol.ToPeer { return c.sendData(c, c.envelope(c, 1, "x")) }},
		"too many members": {protocol.CodeFull, 0, func(c *client) *protocol.ToPeer {
			return many(c, func() *protocol.ToPeer { c.session[1]++; return c.join(chess) })
		}},
		"a node that is full": {protocol.CodeFull, 30_000, func(c *client) *protocol.ToPeer {
			company(c)
			n := dial(c.t, c.url, 9)
			n.login()
			return n.join(chess)
		}},
		"joins": {protocol.CodeRate, computed, func(c *client) *protocol.ToPeer { return many(c, func() *protocol.ToPeer { return c.join(chess) }) }},
		"broadcasts": {protocol.CodeRate, computed, func(c *client) *protocol.ToPeer {
			company(c)
			return many(c, func() *protocol.ToPeer { return c.broadcast(1, strings.Repeat("x", 50<<10)) })
		}},
		"messages": {protocol.CodeRate, 1000, func(c *client) *protocol.ToPeer {
			return many(c, func() *protocol.ToPeer {
				c.write(&protocol.ToNode{Body: &protocol.ToNode_Beat{}, Ref: 1})
				return c.read()
			})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := startAlone(t, quota, relay.Config{MaxMembers: 8}, 0)
			c := enters(t, s.url, 1, chess)
			m := q.ask(c)
			r := m.GetRefused()
			if r == nil || protocol.Code(r.Code) != q.code || r.Text == "" {
				t.Fatalf("answer %v, want %v", m, q.code)
			}
			row := fmt.Sprint(q.code, " ", r.RetryAfter)
			switch {
			case q.retry != computed && r.RetryAfter != q.retry:
				t.Errorf("try again after %d ms, want %d", r.RetryAfter, q.retry)
			case q.retry == computed && (r.RetryAfter == 0 || r.RetryAfter > 5000):
				t.Errorf("try again after %d ms", r.RetryAfter)
			case q.retry == computed:
				row = q.code.String() + " as long as it takes"
			case r.RetryAfter >= 1000:
				row = fmt.Sprintf("%v %d,%03d", q.code, r.RetryAfter/1000, r.RetryAfter%1000)
			}
			if !documented[row] {
				t.Errorf("docs/protocol.md has no row for %q", row)
			}
		})
	}
	for _, row := range []string{"node_gone 5,000", "full 1,000", "internal 0"} { // by other tests
		if !documented[row] {
			t.Errorf("docs/protocol.md has no row for %q", row)
		}
	}
}

// Who has waited for as long as it was told may join again: a loop of joining
// and parting goes no faster than that.
func TestJoinsAreCharged(t *testing.T) {
	t.Parallel()
	s := startAlone(t, door.Quota{}, relay.Config{}, 0)
	c := enters(t, s.url, 1, chess)
	part := &protocol.ToNode{Body: &protocol.ToNode_Part{Part: &protocol.Part{App: chess[:], Session: c.session[:]}}}
	began, joins := time.Now(), 1
	for {
		c.does(c.ask(part))
		m := c.join(chess)
		if r := m.GetRefused(); r != nil {
			if protocol.Code(r.Code) != protocol.CodeRate || r.RetryAfter == 0 {
				t.Fatalf("answer %v", m)
			}
			time.Sleep(time.Duration(r.RetryAfter) * time.Millisecond)
			if m = c.join(chess); m.GetJoined() == nil {
				t.Errorf("after %d ms: %v", r.RetryAfter, m)
			}
			break
		}
		joins++
	}
	// Of half a burst of 2,000 messages, 22 are a join and a part; 100 a second come anew.
	if most := (1000 + int(100*time.Since(began).Seconds())) / 20; joins > most || joins < 40 {
		t.Errorf("%d joins, of at most %d", joins, most)
	}
}

// A member whose socket broke counts for its address, so that a client cannot
// leave more behind than it may have.
func TestKeptAreBounded(t *testing.T) {
	t.Parallel()
	s := startAlone(t, door.Quota{AddressMembers: 2}, relay.Config{}, 0)
	for n := range byte(2) {
		c := enters(t, s.url, n+1, chess)
		if n > 0 && c.next().GetArrived() == nil { // or else it is missing
			t.Fatal("not shown who is kept")
		}
		c.breaks()
	}
	for end := time.Now().Add(25 * time.Second); s.door.Stats().(native.Stats).Kept != 2; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("they are not kept")
		}
	}
	c := dial(t, s.url, 3)
	c.login()
	c.isRefused(c.join(chess), protocol.CodeFull, 0)
	for n := range byte(2) { // who was kept comes back, nevertheless
		c := dial(t, s.url, n+1)
		c.login()
		if n > 0 { // not to what was kept, but in its place
			c.seal = dial(t, s.url, 99).seal
		}
		if j := c.join(chess).GetJoined(); j == nil || j.Resumed != (n == 0) {
			t.Errorf("joined %v", j)
		}
	}
}

// A node that stops does not wait until members are lost, and tells nobody.
func TestStopsWithKept(t *testing.T) {
	t.Parallel()
	s := startAlone(t, door.Quota{}, relay.Config{}, 0)
	enters(t, s.url, 1, chess).breaks()
	for end := time.Now().Add(25 * time.Second); s.door.Stats().(native.Stats).Kept != 1; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it is not kept")
		}
	}
	s.stop()
	if n := s.relay.Stats().Members; n != 1 {
		t.Errorf("%d members", n)
	}
	if got := s.door.Stats().(native.Stats).Kept; got != 0 {
		t.Errorf("%d are kept", got)
	}
	// Without the keeper a socket that ends is the end of its members.
	c := enters(t, s.url, 2, chess)
	c.breaks()
	for end := time.Now().Add(25 * time.Second); s.door.Stats().(native.Stats).Members != 1; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it stays")
		}
	}
}

// A node that drains takes no more envelopes for those it keeps: they will join
// elsewhere.
func TestDrainsWithKept(t *testing.T) {
	t.Parallel()
	s := startAlone(t, door.Quota{}, relay.Config{}, 0)
	sink := &deaf{}
	m, err := s.relay.Join(chess, relay.Joining{ID: "x", Sink: sink, WantsPresence: true})
	if err != nil {
		t.Fatal(err)
	}
	c := enters(t, s.url, 1, chess)
	s.host.Drain(t.Context())
	if got := s.door.Stats().(native.Stats).Kept; got != 1 {
		t.Fatalf("%d are kept", got)
	}
	if code := m.Send(relay.Message{Kind: relay.KindDirect, To: string(c.member().Bytes()), Payload: []byte{}}); code != protocol.CodeFull {
		t.Errorf("an envelope is kept: %v", code)
	}
	if sink.left.Load() != 0 {
		t.Error("it is shown as gone")
	}
}

// deaf counts the members it is told to be gone.
type deaf struct{ left atomic.Int32 }

func (d *deaf) Deliver(e *relay.Event) bool {
	if e.Kind == relay.KindLeft || e.Kind == relay.KindLost {
		d.left.Add(1)
	}
	return true
}
