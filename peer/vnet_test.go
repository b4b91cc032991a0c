package peer

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pion/logging"
	"github.com/pion/transport/v4"
	"github.com/pion/transport/v4/vnet"
	"github.com/pion/turn/v5"
	"github.com/pion/webrtc/v4"
)

// internet is a network in memory with a STUN and TURN server on it.
type internet struct {
	t      *testing.T
	router *vnet.Router
	homes  int
	open   atomic.Bool // TURN lets in
	users  sync.Map    // who have made requests
}

// turnHost is where the server is.
const turnHost = "203.0.113.1:3478"

func newInternet(t *testing.T) *internet {
	t.Helper()
	i := &internet{t: t}
	i.open.Store(true)
	i.router = router(t, &vnet.RouterConfig{CIDR: "203.0.113.0/24"})
	host := i.host(i.router, "203.0.113.1")
	conn, err := host.ListenPacket("udp4", turnHost)
	if err != nil {
		t.Fatal(err)
	}
	server, err := turn.NewServer(turn.ServerConfig{
		Realm: "test",
		AuthHandler: func(a *turn.RequestAttributes) (string, []byte, bool) {
			i.users.Store(a.Username, true)
			return a.Username, turn.GenerateAuthKey(a.Username, a.Realm, "password"), i.open.Load()
		},
		PacketConnConfigs: []turn.PacketConnConfig{{
			PacketConn:            conn,
			RelayAddressGenerator: &turn.RelayAddressGeneratorStatic{RelayAddress: net.IPv4(203, 0, 113, 1), Address: "203.0.113.1", Net: host},
			PermissionHandler:     func(net.Addr, net.IP) bool { return true },
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := i.router.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Close()
		if err := i.router.Stop(); err != nil {
			t.Error(err)
		}
	})
	return i
}

// making is held while something is made: vnet counts MAC addresses, for all.
var making sync.Mutex

func router(t *testing.T, c *vnet.RouterConfig) *vnet.Router {
	t.Helper()
	making.Lock()
	defer making.Unlock()
	c.LoggerFactory = logging.NewDefaultLoggerFactory()
	r, err := vnet.NewRouter(c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (i *internet) host(r *vnet.Router, ip string) *vnet.Net {
	i.t.Helper()
	making.Lock()
	defer making.Unlock()
	n, err := vnet.NewNet(&vnet.NetConfig{StaticIPs: []string{ip}})
	if err == nil {
		err = r.AddNet(n)
	}
	if err != nil {
		i.t.Fatal(err)
	}
	return n
}

// NATs, by RFC 4787.
var (
	fullCone       = vnet.NATType{MappingBehavior: vnet.EndpointIndependent, FilteringBehavior: vnet.EndpointIndependent}
	portRestricted = vnet.NATType{MappingBehavior: vnet.EndpointIndependent, FilteringBehavior: vnet.EndpointAddrPortDependent}
	symmetric      = vnet.NATType{MappingBehavior: vnet.EndpointAddrPortDependent, FilteringBehavior: vnet.EndpointAddrPortDependent}
)

// home is a network behind a NAT, with one machine.
type home struct {
	*vnet.Net
	addr   netip.Addr
	cut    atomic.Bool // nothing goes in or out
	walled bool        // but to the TURN server
}

func (i *internet) home(nat vnet.NATType) *home {
	i.t.Helper()
	i.homes++
	h := &home{addr: netip.MustParseAddr(fmt.Sprintf("10.0.%d.2", i.homes))}
	r := router(i.t, &vnet.RouterConfig{CIDR: fmt.Sprintf("10.0.%d.0/24", i.homes), StaticIPs: []string{fmt.Sprintf("203.0.113.%d", 100+i.homes)}, NATType: &nat})
	h.Net = i.host(r, h.addr.String())
	through := func(c vnet.Chunk) bool {
		return !h.cut.Load() && (!h.walled || c.DestinationAddr().String() == turnHost || c.SourceAddr().String() == turnHost)
	}
	r.AddChunkFilter(through)
	if err := i.router.AddRouter(r); err != nil {
		i.t.Fatal(err)
	}
	if err := r.Start(); err != nil {
		i.t.Fatal(err)
	}
	return h // it stops with the internet
}

// traveller is a machine that goes from one home to another. What it had open
// stays where it was.
type traveller struct {
	transport.Net // of the first home, for what does not matter

	mu sync.Mutex
	at *home
	// The address that its node is reached from, which in truth is on loopback.
	wire netip.Addr
	// Silence is not noticed, so that who moves has to notice that.
	deaf bool
}

func travels(at *home) *traveller {
	return &traveller{Net: at.Net, at: at, wire: netip.MustParseAddr("127.0.0.1")}
}

func (v *traveller) now() *home {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.at
}

// goes takes it to another home; its node is lost with the old one, or not.
func (v *traveller) goes(to *home, losesNode bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.at.cut.Store(true)
	v.at = to
	if losesNode {
		v.wire = netip.MustParseAddr("192.0.2.1")
	}
}

func (v *traveller) addrs() addressSet {
	v.mu.Lock()
	defer v.mu.Unlock()
	list := addressSet{v.at.addr, v.wire}
	slices.SortFunc(list, netip.Addr.Compare)
	return list
}

func (v *traveller) Interfaces() ([]*transport.Interface, error) { return v.now().Interfaces() }

func (v *traveller) ListenUDP(network string, laddr *net.UDPAddr) (transport.UDPConn, error) {
	return v.now().ListenUDP(network, laddr)
}

func (v *traveller) ListenPacket(network, address string) (net.PacketConn, error) {
	return v.now().ListenPacket(network, address)
}

// api is as the package has it, on this network.
func (v *traveller) api() *webrtc.API {
	s := Setting()
	s.SetNet(v)
	if v.deaf {
		s.SetICETimeouts(10*patience, 10*patience, keepalive)
	}
	s.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	return webrtc.NewAPI(webrtc.WithSettingEngine(s))
}
