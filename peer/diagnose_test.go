package peer

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/transport/v4/vnet"
	"github.com/pion/turn/v5"
	"github.com/pion/webrtc/v4"

	"github.com/peerservers/peerserver/testnet"
)

// answers adds a host that answers STUN.
func (i *internet) answers(ip string) string {
	i.t.Helper()
	host := i.host(i.router, ip)
	conn, err := host.ListenPacket("udp4", ip+":3478")
	if err != nil {
		i.t.Fatal(err)
	}
	server, err := turn.NewServer(turn.ServerConfig{PacketConnConfigs: []turn.PacketConnConfig{{
		PacketConn: conn, RelayAddressGenerator: &turn.RelayAddressGeneratorNone{Address: ip, Net: host},
	}}})
	if err != nil {
		i.t.Fatal(err)
	}
	i.t.Cleanup(func() { server.Close() })
	return "stun:" + ip + ":3478"
}

func (d *Diagnosis) codes() string {
	var codes []string
	for _, t := range d.Troubles {
		if t.Text == "" {
			codes = append(codes, "no text for")
		}
		codes = append(codes, t.Code)
	}
	return strings.Join(codes, " ")
}

func serversOf(urls ...string) []webrtc.ICEServer {
	return []webrtc.ICEServer{{URLs: urls, Username: "user", Credential: "password"}}
}

// TestDiagnoseNAT: what two servers see of one socket says what kind of NAT there
// is.
func TestDiagnoseNAT(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		nat      vnet.NATType
		only     bool // one server
		want     NAT
		troubles string
	}{
		"full cone":       {fullCone, false, NATCone, ""},
		"port restricted": {portRestricted, false, NATCone, ""},
		"symmetric":       {symmetric, false, NATSymmetric, "nat_symmetric no_turn"},
		"one server":      {symmetric, true, NATUnknown, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := newInternet(t)
			urls := []string{"stun:" + turnHost}
			if !c.only {
				urls = append(urls, i.answers("203.0.113.2"))
			}
			d := Diagnose(t.Context(), serversOf(urls...), i.home(c.nat).Net)
			if d.NAT != c.want || d.UDP != UDPOpen || d.codes() != c.troubles {
				t.Errorf("%+v, want %s and %q", d, c.want, c.troubles)
			}
			for _, s := range d.STUN {
				if !s.OK || s.Mapped.Addr() != netip.MustParseAddr("203.0.113.101") || s.Why != "" {
					t.Errorf("%+v", s)
				}
			}
		})
	}
}

// TestDiagnoseWithoutNAT: who is on the internet sees its own address, and has a
// TURN server that serves it, one that refuses it, and one that is not there.
func TestDiagnoseWithoutNAT(t *testing.T) {
	t.Parallel()
	i := newInternet(t)
	d := Diagnose(t.Context(), serversOf("stun:"+turnHost, "turn:"+turnHost+"?transport=udp", "turn:203.0.113.77:3478?transport=udp"), i.host(i.router, "203.0.113.50"))
	if d.NAT != NATNone || d.UDP != UDPOpen || d.codes() != "turn_no_reply" || !d.TURN[0].OK || !d.TURN[0].Relayed.IsValid() || d.TURN[1].Why != WhyNoReply {
		t.Errorf("%+v", d)
	}
	i.open.Store(false)
	d = Diagnose(t.Context(), serversOf("turn:"+turnHost+"?transport=udp"), i.host(i.router, "203.0.113.51"))
	if d.codes() != "turn_denied" || d.UDP != UDPOpen || d.TURN[0].Why != WhyDenied {
		t.Errorf("%+v", d)
	}
}

// TestDiagnoseBlocked: UDP does not pass, TCP does. The allocation is given back.
func TestDiagnoseBlocked(t *testing.T) {
	t.Parallel()
	open := new(atomic.Bool)
	open.Store(true)
	at := turnServer(t, open)
	d := Diagnose(t.Context(), serversOf(turnURLs(at)...), blocked{sockets{}})
	if d.UDP != UDPBlocked || d.codes() != "udp_blocked" || d.STUN[0].Why != WhyNoReply || d.TURN[0].Why != WhyNoReply || !d.TURN[1].OK || d.TURN[1].Transport != "tcp" {
		t.Errorf("%+v", d)
	}
	b, err := json.Marshal(d)
	if err != nil || !strings.Contains(string(b), `"udp":"blocked"`) || !strings.Contains(string(b), `"why":"no_reply"`) {
		t.Errorf("%s, %v", b, err)
	}
}

// TestDiagnoseHostile: servers that say what they like, or nothing, and URLs that
// are none, hold nobody up and are of no use.
func TestDiagnoseHostile(t *testing.T) {
	t.Parallel()
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{}, 2)
	go func() {
		defer func() { served <- struct{}{} }()
		b := make([]byte, 2000)
		for {
			n, from, err := udp.ReadFrom(b)
			if err != nil {
				return
			}
			b[0] |= 1 // an answer of no kind that there is
			for k := range n {
				_, _ = udp.WriteTo(b[:k], from)
			}
		}
	}()
	go func() {
		defer func() { served <- struct{}{} }()
		var open []net.Conn
		for {
			c, err := tcp.Accept()
			if err != nil {
				break
			}
			_, _ = c.Write([]byte(strings.Repeat("GET / HTTP/1.1\r\n", 1000)))
			open = append(open, c)
		}
		for _, c := range open {
			c.Close()
		}
	}()
	defer func() {
		udp.Close()
		tcp.Close()
		<-served
		<-served
	}()
	at := udp.LocalAddr().String()
	urls := []string{
		"stun:" + at, "turn:" + at + "?transport=udp", "turn:" + tcp.Addr().String() + "?transport=tcp", "turns:" + tcp.Addr().String() + "?transport=tcp",
		"http://x", "", "turn:", "stuns:127.0.0.1:1", "turns:127.0.0.1:1?transport=udp",
	}
	for k := range 100 {
		urls = append(urls, fmt.Sprintf("turn:127.0.0.1:%d", 1+k))
	}
	began := time.Now()
	d := Diagnose(t.Context(), serversOf(urls...), nil)
	if took := time.Since(began); took > 5*triedFor {
		t.Errorf("it took %v", took)
	}
	if len(d.STUN)+len(d.TURN) != maxTried {
		t.Errorf("%d were tried", len(d.STUN)+len(d.TURN))
	}
	for _, s := range append(d.STUN, d.TURN...) {
		if s.OK || s.Why != WhyNoReply && s.Why != WhyBadURL {
			t.Errorf("%+v", s)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if d := Diagnose(ctx, serversOf(urls...), nil); d.UDP == UDPOpen {
		t.Errorf("%+v", d)
	}
}

// TestDiagnoseRoom: a room tries what its node has named, and says when there is
// no node, and who is reached over nodes only.
func TestDiagnoseRoom(t *testing.T) {
	t.Parallel()
	open := new(atomic.Bool)
	open.Store(true)
	at := turnServer(t, open)
	nodes := testnet.Start(t, 1)
	node := iceBetween(t, nodes.URL(0), named(3600, "user", turnURLs(at)...))
	g := new(gate)
	alice := join(t, "alice", Options{Nodes: []string{node.url}, API: g.api()})
	bob := join(t, "bob", Options{Nodes: []string{node.url}, API: g.api()})
	alice.knowsOnly(node.url)
	alice.sees("+bob")
	bob.sees("+alice")
	d := alice.Diagnose(t.Context())
	if len(d.STUN) != 1 || len(d.TURN) != 2 || !d.STUN[0].OK || !d.TURN[0].OK || !d.TURN[1].OK || d.codes() != "peers_over_nodes" {
		t.Errorf("%+v", d)
	}
	nodes.Kill(0)
	node.cut()
	eventually(t, "there is no node", func() bool { return alice.Node() == "" })
	if d := alice.Diagnose(t.Context()); !strings.Contains(d.codes(), "node_gone") {
		t.Errorf("%+v", d)
	}
}
