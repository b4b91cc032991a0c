package ice

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/testnet/certs"
	"github.com/pion/stun/v4"
	"github.com/pion/turn/v5"
)

// patience is what a test waits for what must come, never what it measures.
const patience = 20 * time.Second

func TestMain(m *testing.M) {
	code := m.Run()
	for end := time.Now().Add(patience); runtime.NumGoroutine() > 2 && code == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			b := make([]byte, 1<<20)
			fmt.Fprintf(os.Stderr, "goroutines are left over:\n%s\n", b[:runtime.Stack(b, true)])
			code = 1
		}
	}
	os.Exit(code)
}

// scene is a server on loopback, over UDP, TCP and TLS.
type scene struct {
	*Server
	t        testing.TB
	udp      netip.AddrPort
	tcp, tls string
	stop     func()
}

// serve starts a server that relays on loopback, unless the test changes that.
func serve(t testing.TB, change func(*Config)) *scene {
	t.Helper()
	sc := &scene{t: t}
	p := listenUDP(t, "127.0.0.1:0")
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	secure, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certs.New(t).Certificate(t, certs.Leaf{})}})
	must(t, err)
	cfg := Config{
		Secret: make([]byte, 32), Node: protocol.NodeID{1}, Packets: []net.PacketConn{p}, Listeners: []net.Listener{tcp, secure},
		TURN: true, AllowPrivate: true,
	}
	if change != nil {
		change(&cfg)
	}
	sc.Server, err = New(cfg)
	must(t, err)
	sc.udp, sc.tcp, sc.tls = addrPort(p.LocalAddr()), tcp.Addr().String(), secure.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := sc.Serve(ctx); err != nil {
			t.Errorf("serve: %v", err)
		}
	}()
	sc.stop = func() { cancel(); <-done }
	t.Cleanup(sc.stop)
	waitServing(t, sc.Server)
	return sc
}

// waitServing waits until connections are let in.
func waitServing(t testing.TB, s *Server) {
	eventually(t, "it serves", func() bool {
		s.conns.mu.Lock()
		defer s.conns.mu.Unlock()
		return !s.conns.closed
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func listenUDP(t testing.TB, at string) *net.UDPConn {
	t.Helper()
	p, err := net.ListenPacket("udp", at)
	must(t, err)
	t.Cleanup(func() { p.Close() })
	return p.(*net.UDPConn)
}

// dial connects to the server by "udp", "tcp" or "tls".
func (sc *scene) dial(way string) net.PacketConn {
	sc.t.Helper()
	var c net.Conn
	var err error
	switch way {
	case "udp":
		return listenUDP(sc.t, "127.0.0.1:0")
	case "tcp":
		c, err = net.Dial("tcp", sc.tcp)
	case "tls":
		c, err = tls.Dial("tcp", sc.tls, &tls.Config{InsecureSkipVerify: true})
	}
	must(sc.t, err)
	sc.t.Cleanup(func() { c.Close() })
	return turn.NewSTUNConn(c)
}

// relayed has a real client allocate, as a peer of that name.
func (sc *scene) relayed(way, peer string) net.PacketConn {
	sc.t.Helper()
	user, password := sc.Credentials([]byte(peer))
	conn, err := sc.allocate(way, user, password)
	must(sc.t, err)
	return conn
}

func (sc *scene) allocate(way, user, password string) (net.PacketConn, error) {
	at := sc.udp.String()
	c, err := turn.NewClient(&turn.ClientConfig{
		TURNServerAddr: at, Conn: sc.dial(way), Username: user, Password: password, Realm: Realm, LoggerFactory: silence{},
	})
	must(sc.t, err)
	must(sc.t, c.Listen())
	sc.t.Cleanup(c.Close)
	conn, err := c.Allocate()
	if err == nil {
		sc.t.Cleanup(func() { conn.Close() })
	}
	return conn, err
}

// eventually waits for what is to come true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// exchange sends something from a to b until it is there. UDP may lose, and a
// permission takes its time.
func exchange(t testing.TB, a, b net.PacketConn, text string) net.Addr {
	t.Helper()
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			_, _ = a.WriteTo([]byte(text), b.LocalAddr())
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	defer func() { close(stop); <-done }()
	b.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, 2000)
	for {
		n, from, err := b.ReadFrom(buf)
		must(t, err)
		if string(buf[:n]) == text {
			return from
		}
	}
}

// raw is a client that says what it wants to.
type raw struct {
	t              testing.TB
	conn           net.PacketConn
	to             net.Addr
	user, password string
	nonce          stun.Nonce
	relayedAt      netip.AddrPort
}

func (sc *scene) raw(way, peer string) *raw {
	sc.t.Helper()
	user, password := sc.Credentials([]byte(peer))
	return &raw{t: sc.t, conn: sc.dial(way), to: net.UDPAddrFromAddrPort(sc.udp), user: user, password: password}
}

func (r *raw) key() stun.MessageIntegrity {
	return stun.MessageIntegrity(turn.GenerateAuthKey(r.user, Realm, r.password))
}

// request sends a request of TURN with credentials, gets a nonce first if it has
// none, and returns the answer and its code, 0 for success.
func (r *raw) request(method stun.Method, parts ...stun.Setter) (*stun.Message, int) {
	r.t.Helper()
	if r.nonce == nil {
		answer, code := r.send(stun.NewType(method, stun.ClassRequest), requestUDP())
		if code != 401 || r.nonce.GetFrom(answer) != nil {
			r.t.Fatalf("without credentials: %d", code)
		}
	}
	parts = append(parts, stun.NewUsername(r.user), stun.NewRealm(Realm), r.nonce, r.key())
	answer, code := r.send(append([]stun.Setter{stun.NewType(method, stun.ClassRequest)}, parts...)...)
	if code != 401 && code != 438 {
		if err := r.key().Check(answer); err != nil {
			r.t.Errorf("%v, answered by %d: %v", method, code, err)
		}
	}
	return answer, code
}

// send sends one message, again as long as nothing comes back.
func (r *raw) send(parts ...stun.Setter) (*stun.Message, int) {
	r.t.Helper()
	msg, err := stun.Build(append([]stun.Setter{stun.TransactionID}, parts...)...)
	must(r.t, err)
	buf := make([]byte, 2000)
	for end := time.Now().Add(patience); time.Now().Before(end); {
		_, err := r.conn.WriteTo(msg.Raw, r.to)
		must(r.t, err)
		r.conn.SetReadDeadline(time.Now().Add(time.Second))
		n, _, err := r.conn.ReadFrom(buf)
		answer := &stun.Message{Raw: append([]byte(nil), buf[:n]...)}
		if err != nil || answer.Decode() != nil || answer.TransactionID != msg.TransactionID {
			continue
		}
		var code stun.ErrorCodeAttribute
		if code.GetFrom(answer) != nil {
			return answer, 0
		}
		return answer, int(code.Code)
	}
	r.t.Fatal("no answer")
	return nil, 0
}

func (r *raw) allocate(parts ...stun.Setter) (netip.AddrPort, int) {
	r.t.Helper()
	answer, code := r.request(stun.MethodAllocate, append([]stun.Setter{requestUDP()}, parts...)...)
	var at stun.XORMappedAddress
	if code != 0 || at.GetFromAs(answer, stun.AttrXORRelayedAddress) != nil {
		return netip.AddrPort{}, code
	}
	ip, _ := netip.AddrFromSlice(at.IP)
	r.relayedAt = netip.AddrPortFrom(ip.Unmap(), uint16(at.Port))
	return r.relayedAt, 0
}

// attr is an attribute in bytes.
type attr struct {
	typ   stun.AttrType
	value []byte
}

func (a attr) AddTo(m *stun.Message) error { m.Add(a.typ, a.value); return nil }

func requestUDP() stun.Setter { return attr{stun.AttrRequestedTransport, []byte{17, 0, 0, 0}} }

// peerAt is XOR-PEER-ADDRESS. An address is written as it is: v4-mapped ones too.
type peerAt netip.AddrPort

func (p peerAt) AddTo(m *stun.Message) error {
	a := netip.AddrPort(p)
	b := a.Addr().AsSlice()
	family := byte(1)
	if len(b) == 16 {
		family = 2
	}
	pad := append([]byte{0x21, 0x12, 0xa4, 0x42}, m.TransactionID[:]...)
	for i := range b {
		b[i] ^= pad[i]
	}
	port := a.Port() ^ 0x2112
	m.Add(stun.AttrXORPeerAddress, append([]byte{0, family, byte(port >> 8), byte(port)}, b...))
	return nil
}

func channelNumber(n uint16) stun.Setter {
	return attr{stun.AttrChannelNumber, []byte{byte(n >> 8), byte(n), 0, 0}}
}
