package native_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/peerservers/peerserver/node/door/native"
	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/testnet"
)

// breaks ends the connection as a network does that is gone: with a reset.
func (c *client) breaks() {
	c.t.Helper()
	tcp := c.ws.NetConn().(*net.TCPConn)
	if err := tcp.SetLinger(0); err != nil {
		c.t.Fatal(err)
	}
	tcp.Close()
}

// again is a new connection of the same member.
func (c *client) again(url string) *client {
	c.t.Helper()
	n := dial(c.t, url, c.session[0])
	if n.login().GetWelcome() == nil {
		c.t.Fatal("not welcome again")
	}
	return n
}

func statsOf(t *testing.T, n *testnet.Net, node int) native.Stats {
	t.Helper()
	r, err := http.Get(n.HTTP(node) + "/stats.json")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	var all struct {
		Doors struct{ Peer native.Stats }
	}
	if b, err := io.ReadAll(r.Body); err != nil || json.Unmarshal(b, &all) != nil {
		t.Fatalf("%s, %v", b, err)
	}
	return all.Doors.Peer
}

func awaitKept(t *testing.T, n *testnet.Net, node, want int) {
	t.Helper()
	for end := time.Now().Add(25 * time.Second); statsOf(t, n, node).Kept != want; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("node %d keeps %d members, want %d", node, statsOf(t, n, node).Kept, want)
		}
	}
}

// hearsNothing says that nothing came that was not looked at.
func (c *client) hearsNothing() {
	c.t.Helper()
	if c.ask(&protocol.ToNode{Body: &protocol.ToNode_Beat{}}).GetDone() == nil {
		c.t.Fatal("no answer")
	}
	for _, m := range c.waiting {
		c.t.Errorf("peer %d was told %v", c.session[0], m)
	}
	c.waiting = nil
}

func (c *client) isRefused(m *protocol.ToPeer, want protocol.Code, retry uint32) {
	c.t.Helper()
	if r := m.GetRefused(); r == nil || protocol.Code(r.Code) != want || r.Text == "" || r.RetryAfter != retry {
		c.t.Errorf("answer %v, want %v and %d", m, want, retry)
	}
}

// broken is a member of node 0 whose socket has broken and that is kept, and one
// on another node and one on its own that have seen it.
func broken(t *testing.T, net *testnet.Net) (far, near, c *client) {
	t.Helper()
	far = enters(t, net.URL(1), 1, chess)
	near = enters(t, net.URL(0), 2, chess)
	meet(far, near)
	c = enters(t, net.URL(0), 3, chess)
	for _, other := range []*client{far, near} {
		other.sees(c, false)
		c.next() // read, or it would be lost with the socket
	}
	c.breaks()
	awaitKept(t, net, 0, 1)
	return far, near, c
}

// A socket breaks and another takes over: what came meanwhile, from the same
// node and another, is there once and in order, and nobody is told anything.
func TestResume(t *testing.T) {
	t.Parallel()
	net := testnet.Start(t, 2)
	far, near, c := broken(t, net)
	var want []string
	for i := range uint64(5) {
		for _, from := range []*client{far, near} {
			text := fmt.Sprint(i, " from ", from.session[0])
			from.does(from.send(c.member().Bytes(), from.envelope(c, i+1, text)))
			want = append(want, text)
			for end := time.Now().Add(25 * time.Second); i == 0 && from == far && statsOf(t, net, 0).Held == 0; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatal("nothing is held")
				}
			}
		}
	}
	near.does(near.broadcast(1, "to all"))
	c = c.again(net.URL(0))
	if j := c.join(chess).GetJoined(); j == nil || !j.Resumed || j.Members != 2 {
		t.Fatalf("joined %v", j)
	}
	// What two send may cross; of one it is in order.
	order := map[byte][]string{}
	var all *protocol.ToPeer
	for range len(want) + 1 {
		m := c.next()
		if m.GetBroadcast() != nil {
			if all = m; len(order['2']) != 5 {
				t.Errorf("the broadcast came after %d messages of its sender", len(order['2']))
			}
			continue
		}
		d := m.GetDelivered()
		if d == nil {
			t.Fatalf("told %v", m)
		}
		_, plain, err := d.Envelope.Open(chess, c.member(), c.seal, protocol.AppSecret{})
		if err != nil {
			t.Fatal(err)
		}
		who := plain[len(plain)-1]
		order[who] = append(order[who], string(plain))
	}
	for i := range 5 {
		for _, who := range "12" {
			if got := order[byte(who)][i]; got != fmt.Sprintf("%d from %c", i, who) {
				t.Errorf("message %d of %c is %q", i, who, got)
			}
		}
	}
	c.waiting = append(c.waiting, all)
	c.hearsAll(near, "to all")
	c.hearsNothing()
	far.hearsAll(near, "to all")
	for _, other := range []*client{far, near} {
		other.hearsNothing()
		c.does(c.send(other.member().Bytes(), c.envelope(other, 1, "back")))
		other.hears(c, "back")
		other.does(other.send(c.member().Bytes(), other.envelope(c, 9, "welcome")))
		c.hears(other, "welcome")
	}
	if s := statsOf(t, net, 0); s.Kept != 0 || s.Held != 0 || s.Members != 2 {
		t.Errorf("node: %+v", s)
	}
}

func (c *client) does(m *protocol.ToPeer) {
	c.t.Helper()
	if m.GetDone() == nil {
		c.t.Fatalf("answer %v, want done", m)
	}
}

// A member that does not come back is lost, not gone, and what was sent to it
// fails to those who sent it.
func TestNotResumed(t *testing.T) {
	t.Parallel()
	net := testnet.Start(t, 2)
	far, near, c := broken(t, net)
	refs := map[*client]uint32{}
	for _, from := range []*client{far, near} {
		from.does(from.send(c.member().Bytes(), from.envelope(c, 1, "lost")))
		refs[from] = from.ref
	}
	for from, ref := range refs {
		var departed, failed int
		for range 2 {
			m := from.next()
			if d := m.GetDeparted(); d != nil && d.Lost && string(d.Member) == string(c.member().Bytes()) {
				departed++
			} else if m.Ref == ref {
				from.isRefused(m, protocol.CodeUnknownPeer, 0)
				failed++
			}
		}
		if departed != 1 || failed != 1 {
			t.Errorf("peer %d was told %d times that it is lost, %d that it did not get it", from.session[0], departed, failed)
		}
	}
	c = c.again(net.URL(0))
	if j := c.join(chess).GetJoined(); j == nil || j.Resumed || j.Members != 2 {
		t.Fatalf("joined %v", j)
	}
	for other := range refs {
		other.sees(c, false)
		other.hearsNothing()
	}
}

// A member that comes back on another node has moved: nobody is told, and what
// its first node had kept for it fails, so that it is sent anew.
func TestResumesElsewhere(t *testing.T) {
	t.Parallel()
	net := testnet.Start(t, 3)
	far, near, c := broken(t, net)
	near.does(near.send(c.member().Bytes(), near.envelope(c, 1, "kept")))
	c = c.again(net.URL(2))
	if j := c.join(chess).GetJoined(); j == nil || j.Resumed {
		t.Fatalf("joined %v", j)
	}
	for range 2 { // shown who is there, now or when the nodes have met
		if m := c.next(); m.GetArrived() == nil {
			t.Fatalf("told %v", m)
		}
	}
	near.isRefused(near.next(), protocol.CodeNodeGone, 5000)
	awaitKept(t, net, 0, 0)
	for i, other := range []*client{near, far} {
		other.does(other.send(c.member().Bytes(), other.envelope(c, 2, "moved")))
		c.hears(other, "moved")
		c.does(c.send(other.member().Bytes(), c.envelope(other, uint64(i+1), "here")))
		other.hears(c, "here")
		other.hearsNothing()
	}
}

// What is too much is refused, and the member has to join anew, of which nobody
// is told.
func TestKeepsSoMuch(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int{"messages": 1, "bytes": 40 << 10} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			net := testnet.Start(t, 1)
			a := enters(t, net.URL(0), 1, chess)
			c := enters(t, net.URL(0), 2, chess)
			a.sees(c, false)
			c.sees(a, true) // read, or it would be lost with the socket
			c.breaks()
			awaitKept(t, net, 0, 1)
			sent, text := uint64(0), strings.Repeat("x", size)
			for {
				m := a.send(c.member().Bytes(), a.envelope(c, sent+1, text))
				if m.GetDone() == nil {
					a.isRefused(m, protocol.CodeFull, 1000)
					break
				}
				sent++
			}
			if most := min(protocol.KeptMessages, protocol.KeptBytes/size); int(sent) != most {
				t.Errorf("%d are kept, want %d", sent, most)
			}
			c = c.again(net.URL(0))
			if j := c.join(chess).GetJoined(); j == nil || j.Resumed {
				t.Fatalf("joined %v", j)
			}
			c.sees(a, true)
			c.hearsNothing()
			for range sent { // these did not arrive
				a.isRefused(a.next(), protocol.CodeNodeGone, 5000)
			}
			a.hearsNothing()
			if s := statsOf(t, net, 0); s.Held != 0 || s.Members != 2 {
				t.Errorf("node: %+v", s)
			}
		})
	}
}

// Who has another seal key cannot read what was sealed for the first.
func TestResumesWithItsKeyOnly(t *testing.T) {
	t.Parallel()
	net := testnet.Start(t, 1)
	a := enters(t, net.URL(0), 1, chess)
	c := enters(t, net.URL(0), 2, chess)
	a.sees(c, false)
	c.sees(a, true) // read, or it would be lost with the socket
	c.breaks()
	awaitKept(t, net, 0, 1)
	c = c.again(net.URL(0))
	var err error
	if c.seal, err = protocol.NewSealKey([32]byte(bytes.Repeat([]byte{99}, 32))); err != nil {
		t.Fatal(err)
	}
	if j := c.join(chess).GetJoined(); j == nil || j.Resumed {
		t.Fatalf("joined %v", j)
	}
}

// What failed of an earlier connection is not taken for a request of this one.
func TestRefsAreOfOneConnection(t *testing.T) {
	t.Parallel()
	net := testnet.Start(t, 1)
	a := enters(t, net.URL(0), 1, chess)
	c := enters(t, net.URL(0), 2, chess)
	a.sees(c, false)
	c.sees(a, true)
	c.breaks()
	awaitKept(t, net, 0, 1)
	a.does(a.send(c.member().Bytes(), a.envelope(c, 1, "lost")))
	a.breaks()
	awaitKept(t, net, 0, 2)
	a = a.again(net.URL(0))
	if j := a.join(chess).GetJoined(); j == nil || !j.Resumed {
		t.Fatalf("joined %v", j)
	}
	if d := a.next().GetDeparted(); d == nil || !d.Lost {
		t.Fatalf("told %v", d)
	}
	a.hearsNothing()
}
