package peer_test

import (
	"context"
	"fmt"
	"slices"

	"github.com/pion/webrtc/v4"

	"github.com/peerservers/peerserver/peer"
	"github.com/peerservers/peerserver/testnet"
)

func Example() {
	nodes, stop := run(2)
	defer stop()
	ctx := context.Background()

	alice, err := peer.Join(ctx, "my-app", peer.Options{
		Nodes:  nodes[:1],
		Name:   "alice",
		API:    loopback(),
		OnPeer: func(p *peer.Peer) { p.Send(ctx, []byte("hello")) },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	heard := make(chan string, 1)
	bob, err := peer.Join(ctx, "my-app", peer.Options{
		Nodes:     nodes[1:],
		API:       loopback(),
		OnMessage: func(p *peer.Peer, b []byte) { heard <- p.Name() + " says " + string(b) },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(<-heard)
	bob.Leave(ctx)
	alice.Leave(ctx)
	// Output: alice says hello
}

func ExampleDial() {
	nodes, stop := run(1)
	defer stop()
	ctx := context.Background()

	heard := make(chan string, 1)
	server, err := peer.Listen(ctx, peer.Options{
		Nodes:     nodes,
		API:       loopback(),
		OnMessage: func(_ *peer.Peer, b []byte) { heard <- string(b) },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	address := server.Addresses()[0].String()

	p, err := peer.Dial(ctx, address, peer.Options{API: loopback()})
	if err != nil {
		fmt.Println(err)
		return
	}
	p.Send(ctx, []byte("it is me"))
	fmt.Println(<-heard)
	p.Close()
	server.Leave(ctx)
	// Output: it is me
}

// loopback lets peers of one machine meet. Elsewhere Options.API is not needed.
func loopback() *webrtc.API {
	var s webrtc.SettingEngine
	s.SetIncludeLoopbackCandidate(true)
	return webrtc.NewAPI(webrtc.WithSettingEngine(s))
}

// run starts nodes in this process.
func run(n int) (urls []string, stop func()) {
	t := new(scene)
	nodes := testnet.Start(t, n)
	for i := range n {
		urls = append(urls, nodes.URL(i))
	}
	return urls, t.end
}

// scene is a testnet.TB without a test.
type scene struct{ cleanups []func() }

func (*scene) Helper()                   {}
func (*scene) Logf(string, ...any)       {}
func (*scene) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }
func (s *scene) Cleanup(f func())        { s.cleanups = append(s.cleanups, f) }
func (s *scene) end() {
	for _, f := range slices.Backward(s.cleanups) {
		f()
	}
}
