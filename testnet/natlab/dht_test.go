//go:build linux

package natlab_test

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/peerservers/peerserver/dhtstore"
	"github.com/peerservers/peerserver/testnet/natlab"
)

// crowd is how many nodes of the DHT there are besides those under test: fewer
// are not enough for a node to believe what they say its address is, and without
// that its id is not one that others take (BEP 42).
const crowd = 8

// startDHT starts a DHT, all of it on one machine that has many addresses, and
// returns where to meet it.
func startDHT(t *testing.T, lab *natlab.Lab) (bootstrap []string) {
	t.Helper()
	host := lab.Server("dht")
	bootstrap = []string{netip.AddrPortFrom(host.Addr(), 8787).String()}
	for len(bootstrap) < crowd {
		bootstrap = append(bootstrap, netip.AddrPortFrom(host.Alias(), 8787).String())
	}
	host.StartSelf(t, "dht", bootstrap...).Await(patience, "start", func(string) bool { return true })
	return bootstrap
}

// dhtNodes are nodes of the DHT at some addresses, which know each other.
func dhtNodes(ctx context.Context, addresses []string) error {
	var all sync.WaitGroup
	defer all.Wait()
	ctx, end := context.WithCancel(ctx)
	defer end()
	failed := make(chan error, len(addresses))
	for _, at := range addresses {
		conn, err := new(net.ListenConfig).ListenPacket(ctx, "udp4", at)
		if err != nil {
			return err
		}
		_, key, err := ed25519.GenerateKey(nil)
		if err != nil {
			return err
		}
		store, err := dhtstore.Open(dhtstore.Config{Conn: conn, Key: key, Bootstrap: addresses, NoAnnounce: true})
		if err != nil {
			return err
		}
		all.Go(func() { failed <- store.Serve(ctx) })
	}
	fmt.Println("ready")
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}
