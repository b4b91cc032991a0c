package peer

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/testnet"
)

// named are servers as a node names them; credentials go with what is for TURN.
func named(ttl uint32, user string, urls ...string) *protocol.IceServers {
	s := &protocol.IceServers{Ttl: ttl}
	for _, u := range urls {
		one := &protocol.IceServers_Server{Urls: []string{u}}
		if strings.HasPrefix(u, "turn") {
			one.Username, one.Credential = user, "password"
		}
		s.Servers = append(s.Servers, one)
	}
	return s
}

func urlsOf(list []webrtc.ICEServer) string {
	var urls []string
	for _, s := range list {
		urls = append(urls, s.URLs...)
	}
	return strings.Join(urls, " ")
}

// What a node says is input: of what is no server, or is none of its business,
// nothing is used.
func TestServersOfHostileNode(t *testing.T) {
	for u, want := range map[string]bool{
		"stun:a.example:3478":                        true,
		"stun:192.0.2.1:3478":                        true,
		"stun:[2001:db8::1]:3478":                    true,
		"turn:a.example:3478":                        true,
		"turn:a.example:80?transport=tcp":            true,
		"turns:a.example:443?transport=tcp":          true,
		"turns:a.example:443":                        true,
		"stun:a.example":                             false, // pion has its own port for it; nodes name one
		"stun:a.example:3478?transport=tcp":          false,
		"stun:a.example:3478?transport=udp":          true, // the same as without
		"stuns:a.example:3478":                       false,
		"turn:a.example:3478?transport=sctp":         false,
		"turn:a.example:3478?transport=udp&x=1":      false,
		"turn:a.example:3478?x=1":                    false,
		"turns:a.example:443?transport=udp":          false,
		"http://a.example:80":                        false,
		"turn:user@a.example:3478":                   false,
		"turn:a.example:22?transport=tcp":            false,
		"turn:a.example:25?transport=tcp":            false,
		"turn:a.example:0":                           false,
		"turn:a.example:65536":                       false,
		"turn:a.example:-1":                          false,
		"turn:a.example:http":                        false,
		"turn::3478":                                 false,
		"stun:10.0.0.1:3478":                         false,
		"stun:127.0.0.1:3478":                        false,
		"stun:[::ffff:192.168.0.1]:3478":             false,
		"stun:[fe80::1]:3478":                        false,
		"stun:[fe80::1%25eth0]:3478":                 false,
		"stun:0.0.0.0:3478":                          false,
		"stun:224.0.0.1:3478":                        false,
		"stun:a\r\nb:3478":                           false,
		"stun:" + strings.Repeat("a", 300) + ":3478": false,
		"":  false,
		":": false,
	} {
		if _, _, ok := parseServer(u, false); ok != want {
			t.Errorf("%q: %v, want %v", u, ok, want)
		}
	}
	if _, _, ok := parseServer("stun:192.168.0.1:3478", true); !ok {
		t.Error("a node on a LAN may have a server there")
	}
	many := &protocol.IceServers{}
	for i := range 1000 {
		one := &protocol.IceServers_Server{Username: "user", Credential: "password"}
		for k := range 1000 {
			one.Urls = append(one.Urls, fmt.Sprintf("turn:192.0.2.1:%d", 2000+i+k))
		}
		many.Servers = append(many.Servers, one)
	}
	if n := len(usable(many, false)); n != maxServerURLs {
		t.Errorf("%d URLs are used", n)
	}
	for _, s := range []*protocol.IceServers{
		nil,
		{},
		{Servers: []*protocol.IceServers_Server{nil, {}}},
		named(60, "", "turn:192.0.2.1:3478"),
		named(60, strings.Repeat("x", maxCredential+1), "turn:192.0.2.1:3478"),
	} {
		if list := usable(s, false); len(list) > 0 {
			t.Errorf("%v: %v is used", s, list)
		}
	}
	// Whatever is used, pion takes: a node cannot keep its peers from connecting.
	pc, err := webrtc.NewPeerConnection(webrtc.Configuration{ICEServers: append(usable(many, false), usable(named(60, "user",
		"stun:a.example:3478", "stun:a.example:3478?transport=udp", "stun:[2001:db8::1]:3478", "turns:a.example:443", "turn:a.example:80?transport=tcp"), false)...)})
	if err != nil {
		t.Fatal(err)
	}
	pc.Close()
}

// A connection asks few of them, and all when that has not led to the other side;
// none whose credentials have expired.
func TestServersList(t *testing.T) {
	now := time.Now()
	s := newServers(new(Options))
	if s.wait(now) != never || len(s.list(true, now)) > 0 || s.hasTURN() {
		t.Error("there are servers before a node has named any")
	}
	s.take(named(1000, "user", "stun:192.0.2.1:3478", "turn:192.0.2.1:3478?transport=udp", "turn:192.0.2.1:3478?transport=tcp", "turns:192.0.2.1:443",
		"stun:192.0.2.2:3478", "turn:192.0.2.2:3478?transport=udp", "stun:192.0.2.3:3478"), false, now)
	const few = "stun:192.0.2.1:3478 turn:192.0.2.1:3478?transport=udp turn:192.0.2.1:3478?transport=tcp turns:192.0.2.1:443 stun:192.0.2.2:3478"
	if got := urlsOf(s.list(true, now)); got != few {
		t.Errorf("few are %s", got)
	}
	if got := s.list(false, now); len(got) != 7 || got[1].Username != "user" || got[1].Credential != "password" {
		t.Errorf("all are %v", got)
	}
	s.worked()
	if got := urlsOf(s.list(true, now)); got != "stun:192.0.2.1:3478 turn:192.0.2.1:3478?transport=udp stun:192.0.2.2:3478" {
		t.Errorf("once UDP has worked, few are %s", got)
	}
	s.moved()
	if got := urlsOf(s.list(true, now)); got != few {
		t.Errorf("on another network, few are %s", got)
	}
	if d := s.wait(now); d != 750*time.Second {
		t.Errorf("others are asked for after %v", d)
	}
	if got := urlsOf(s.list(false, now.Add(1001*time.Second))); got != "stun:192.0.2.1:3478 stun:192.0.2.2:3478 stun:192.0.2.3:3478" {
		t.Errorf("once they have expired: %s", got)
	}
	s.take(named(0, "user", "turn:192.0.2.1:3478"), false, now)
	if d := s.wait(now); d < iceLeast/2 {
		t.Errorf("a node has its peers ask again after %v", d)
	}
	s.take(named(1<<31, "user", "turn:192.0.2.1:3478"), false, now)
	if d := s.wait(now); d > protocol.ICETTL {
		t.Errorf("credentials are believed for %v", d)
	}
	s.take(named(60, "", "stun:192.0.2.1:3478"), false, now)
	if s.wait(now) != never {
		t.Error("without TURN there is nothing to ask for again")
	}
	s.take(nil, false, now)
	if got := urlsOf(s.list(false, now)); got != "stun:192.0.2.1:3478" {
		t.Errorf("after a node that says nothing: %s", got)
	}
	s.take(new(protocol.IceServers), false, now)
	if len(s.list(false, now)) > 0 {
		t.Error("of a node that says that there are none something is used")
	}
}

// The app's own servers replace those of the node; or there are to be none.
func TestServersOfOptions(t *testing.T) {
	own := []webrtc.ICEServer{{URLs: []string{"stun:a.example"}}}
	for want, o := range map[string]*Options{"stun:a.example": {ICEServers: own}, "": {NoNodeICE: true}} {
		s := newServers(o)
		s.take(named(60, "user", "turn:192.0.2.1:3478"), true, time.Now())
		if got := urlsOf(s.list(false, time.Now())); got != want || s.wait(time.Now()) != never {
			t.Errorf("%+v: %s", o, got)
		}
	}
}

// iceNode is a proxy that names servers in its node's place.
type iceNode struct {
	*proxy
	mu    sync.Mutex
	says  *protocol.IceServers // in Joined
	ours  []uint32             // refs of AskIce, which are answered
	later *protocol.IceServers // with that
}

func iceBetween(t *testing.T, node string, says *protocol.IceServers) *iceNode {
	t.Helper()
	n := &iceNode{proxy: between(t, node), says: says}
	n.up = func(m *protocol.ToNode) []*protocol.ToNode {
		if m.GetAskIce() != nil {
			n.mu.Lock()
			n.ours = append(n.ours, m.Ref)
			n.mu.Unlock()
			return []*protocol.ToNode{{Ref: m.Ref, Body: &protocol.ToNode_Beat{Beat: &protocol.Beat{}}}} // for there to be an answer
		}
		return []*protocol.ToNode{m}
	}
	n.down = func(m *protocol.ToPeer) []*protocol.ToPeer {
		n.mu.Lock()
		defer n.mu.Unlock()
		if j := m.GetJoined(); j != nil {
			j.Ice = n.says
		}
		if m.GetDone() != nil && len(n.ours) > 0 && m.Ref == n.ours[len(n.ours)-1] && n.later != nil {
			m.Body = &protocol.ToPeer_IceServers{IceServers: n.later}
		}
		return []*protocol.ToPeer{m}
	}
	return n
}

// names is what it answers from now on.
func (n *iceNode) names(later *protocol.IceServers) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.later = later
}

func (n *iceNode) asked() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.ours)
}

func (r *Room) userOf(t *testing.T, few bool) string {
	t.Helper()
	list := r.servers.list(few, time.Now())
	if len(list) == 0 {
		return ""
	}
	return list[len(list)-1].Username
}

// knowsOnly has the room go to no other node: those that it has learnt are reached
// without a proxy.
func (r *Room) knowsOnly(node string) {
	r.homes.mu.Lock()
	defer r.homes.mu.Unlock()
	r.homes.urls, r.homes.fixed = []string{node}, true
}

// asksNow has the room ask its node for servers, as it does before credentials
// expire.
func (r *Room) asksNow() {
	r.servers.mu.Lock()
	r.servers.due = time.Now()
	r.servers.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.socket.served <- struct{}{}
}

// A room uses what its node names at the join, asks again in time, and on another
// node uses what that one names. What it has not asked for it does not take.
func TestServersOfNode(t *testing.T) {
	t.Parallel()
	nodes := testnet.Start(t, 2)
	x := iceBetween(t, nodes.URL(0), named(3600, "first", "turn:127.0.0.1:1025"))
	y := iceBetween(t, nodes.URL(1), named(3600, "other", "turn:127.0.0.1:1025"))
	x.later = named(3600, "second", "turn:127.0.0.1:1025")
	alice := join(t, "alice", Options{Nodes: []string{x.url}})
	if u := alice.userOf(t, true); u != "first" {
		t.Fatalf("after the join the user is %q", u)
	}
	if x.asked() > 0 {
		t.Error("it has asked again at once")
	}
	alice.handle(alice.socket, &protocol.ToPeer{Ref: refICE, Body: &protocol.ToPeer_IceServers{IceServers: named(60, "unasked", "turn:127.0.0.1:1025")}})
	if u := alice.userOf(t, true); u != "first" {
		t.Errorf("the user is %q, which it has not asked for", u)
	}
	alice.asksNow()
	eventually(t, "it has others", func() bool { return alice.userOf(t, true) == "second" })
	if n := x.asked(); n != 1 {
		t.Errorf("it has asked %d times", n)
	}
	alice.knowsOnly(y.url)
	x.cut()
	eventually(t, "it has those of the other node", func() bool { return alice.userOf(t, true) == "other" })
}
