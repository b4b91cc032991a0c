package node_test

import (
	"bytes"
	"crypto/ed25519"
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/peerservers/peerserver/node"
	"github.com/peerservers/peerserver/peer/lan/lantest"
	"github.com/peerservers/peerserver/protocol"
)

// Nodes on one LAN federate, without a DHT, without being told of each other,
// and without --allow-private. The addresses are loopback ones, which are
// private too.
func TestNodesOnOneLAN(t *testing.T) {
	var here, elsewhere lantest.Ether
	on := func(ether *lantest.Ether, ip string) *node.Node {
		return startPublicNode(t, node.Config{Listen: ip + ":0", LAN: true, LANNetwork: ether.Host(ip + "/8")})
	}
	a, b, far := on(&here, "127.0.0.1"), on(&here, "127.0.0.2"), on(&elsewhere, "127.0.0.3")
	eventually(t, func() bool { return a.Known() == 1 && b.Known() == 1 }, "they do not hear each other")
	meet(t, a, b)
	if a.Known() != 1 || far.Known() != 0 {
		t.Errorf("%d and %d nodes are known", a.Known(), far.Known())
	}
}

// A node that is bound to loopback is not announced on a LAN, but hears others.
func TestNodeThatOnlyListens(t *testing.T) {
	var ether lantest.Ether
	a := startPublicNode(t, node.Config{Listen: "127.0.0.1:0", LAN: true, LANNetwork: ether.Host("10.0.0.1/24")})
	other := nodeBeacon(t, 2, "ws://10.0.0.2:8787")
	eventually(t, func() bool {
		ether.Send(netip.MustParseAddr("10.0.0.2"), other)
		return a.Known() == 1
	}, "it does not hear")
	for _, b := range ether.Sent() {
		if !bytes.Equal(b, other) {
			t.Error("it sends beacons")
		}
	}
}

func nodeBeacon(t *testing.T, seed byte, urls ...string) []byte {
	t.Helper()
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
	r := &protocol.Record{Seq: time.Now().UnixMilli(), TTL: protocol.RecordTTL, URLs: urls}
	if err := protocol.SignRecord(key, r); err != nil {
		t.Fatal(err)
	}
	b, err := protocol.SignBeacon(key, [protocol.BeaconNonce]byte{}, nil, 0, r.Signed)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A beacon opens the way to the address that it came from, and to no other:
// nobody on the LAN can have a node knock at somebody else's door.
func TestBeaconOpensItsOwnAddressOnly(t *testing.T) {
	var ether lantest.Ether
	startPublicNode(t, node.Config{Listen: "127.0.0.1:0", LAN: true, LANNetwork: ether.Host("127.0.0.1/8")})
	victim, own := doorbell(t, "127.0.0.9"), doorbell(t, "127.0.0.66")
	eventually(t, func() bool { return len(ether.Sent()) > 0 }, "there is no beacon")
	from := netip.MustParseAddr("127.0.0.66")
	ether.Send(from, nodeBeacon(t, 3, victim.url))                             // another's address
	ether.Send(netip.MustParseAddr("128.0.0.9"), nodeBeacon(t, 4, victim.url)) // of no subnet
	forged := nodeBeacon(t, 5, victim.url)
	forged[len(forged)-1] ^= 1
	ether.Send(netip.MustParseAddr("127.0.0.9"), forged)
	ether.Send(from, nodeBeacon(t, 6, victim.url, own.url)) // both
	select {
	case <-own.rung:
	case <-time.After(patience):
		t.Fatal("the address of the beacon is not dialled")
	}
	select {
	case <-victim.rung:
		t.Error("an address is dialled that the beacon did not come from")
	case <-time.After(time.Second):
	}
}

// doorbell is a port at which nobody answers.
type bell struct {
	url  string
	rung chan struct{}
}

func doorbell(t *testing.T, ip string) bell {
	t.Helper()
	l, err := net.Listen("tcp", ip+":0")
	if err != nil {
		t.Fatal(err)
	}
	b := bell{"ws://" + net.JoinHostPort(ip, strconv.Itoa(l.Addr().(*net.TCPAddr).Port)), make(chan struct{}, 1)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
			select {
			case b.rung <- struct{}{}:
			default:
			}
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return b
}
