package peer_test

import (
	"context"
	"fmt"
	"slices"
	"sync"

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

func ExampleRoom_Broadcast() {
	nodes, stop := run(1)
	defer stop()
	ctx := context.Background()

	var met sync.WaitGroup
	met.Add(2)
	heard := make(chan string, 2)
	var others []*peer.Room
	for _, name := range []string{"bob", "carol"} {
		r, err := peer.Join(ctx, "my-app", peer.Options{
			Nodes: nodes, Name: name, API: loopback(),
			OnMessage: func(p *peer.Peer, b []byte) { heard <- p.Name() + " says " + string(b) },
		})
		if err != nil {
			fmt.Println(err)
			return
		}
		others = append(others, r)
	}
	alice, err := peer.Join(ctx, "my-app", peer.Options{
		Nodes: nodes, Name: "alice", API: loopback(),
		OnPeer: func(*peer.Peer) { met.Done() },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	met.Wait()
	alice.Broadcast(ctx, []byte("good evening"))
	fmt.Println(<-heard)
	fmt.Println(<-heard)
	for _, r := range append(others, alice) {
		r.Leave(ctx)
	}
	// Output:
	// alice says good evening
	// alice says good evening
}

func ExamplePeer_Channel() {
	nodes, stop := run(1)
	defer stop()
	ctx := context.Background()

	got := make(chan string)
	bob, err := peer.Join(ctx, "my-app", peer.Options{
		Nodes: nodes, API: loopback(),
		OnChannel: func(_ *peer.Peer, c *peer.Channel) {
			go func() { // a handler holds up what else comes from the peer
				for b, err := c.Read(ctx); err == nil; b, err = c.Read(ctx) {
					got <- c.Label() + ": " + string(b)
				}
				close(got)
			}()
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	met := make(chan *peer.Peer, 1)
	alice, err := peer.Join(ctx, "my-app", peer.Options{
		Nodes: nodes, API: loopback(),
		OnPeer: func(p *peer.Peer) { met <- p },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	c, err := (<-met).Channel(ctx, "moves", peer.ChannelOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	c.Write(ctx, []byte("e4"))
	fmt.Println(<-got)
	c.Close()
	<-got // it has ended there too
	alice.Leave(ctx)
	bob.Leave(ctx)
	// Output: moves: e4
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
