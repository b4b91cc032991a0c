package peer_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/peerservers/peerserver/peer"
)

func ExampleRoom_Handle() {
	alice, bob, end := meet()
	defer end()
	ctx := context.Background()

	// Alice has a command.
	remove, err := alice.Handle("math.divide", func(_ context.Context, q *peer.Request) (any, error) {
		var of []float64
		if err := q.Args.Decode(&of); err != nil {
			return nil, err // the caller is told "malformed"
		}
		if len(of) != 2 || of[1] == 0 {
			return nil, &peer.RemoteError{Code: "undefined", Text: "nothing is divided by zero"}
		}
		return of[0] / of[1], nil
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer remove()

	// Bob calls it.
	v, err := bob.Call(ctx, "math.divide", []float64{1, 4})
	fmt.Println(string(v.JSON), err)
	_, err = bob.Call(ctx, "math.divide", []float64{1, 0})
	if remote, ok := errors.AsType[*peer.RemoteError](err); ok {
		fmt.Println(remote.Code)
	}
	// Output:
	// 0.25 <nil>
	// undefined
}

func ExamplePeer_Call() {
	alice, bob, end := meet()
	defer end()
	alice.Handle("copy", func(_ context.Context, q *peer.Request) (any, error) {
		for percent := 50; percent <= 100; percent += 50 {
			if err := q.Progress(percent); err != nil {
				return nil, err
			}
		}
		return q.Args, nil
	})

	v, err := bob.Call(context.Background(), "copy", []byte("a picture"), peer.OnProgress(func(v peer.Value) {
		fmt.Println(string(v.JSON), "%")
	}))
	fmt.Println(string(v.Bytes), err)
	// Output:
	// 50 %
	// 100 %
	// a picture <nil>
}

func ExamplePeer_Stream() {
	alice, bob, end := meet()
	defer end()
	alice.Handle("count", func(_ context.Context, q *peer.Request) (any, error) {
		for i := 0; ; i++ {
			if err := q.Send(i); err != nil {
				return nil, err // the caller has had enough
			}
		}
	})

	for v, err := range bob.Stream(context.Background(), "count", nil) {
		var i int
		if err == nil {
			err = v.Decode(&i)
		}
		fmt.Println(i, err)
		if err != nil || i == 2 {
			break
		}
	}
	// Output:
	// 0 <nil>
	// 1 <nil>
	// 2 <nil>
}

func ExampleRoom_Call() {
	alice, _, end := meet()
	defer end()

	// Every peer has the command __echo__.
	for p, o := range alice.Call(context.Background(), peer.All(), "__echo__", "hello") {
		fmt.Println(p.Name(), string(o.Value.JSON), o.Err)
	}
	// Output: bob "hello" <nil>
}

// meet gives alice's room, and alice as bob sees her.
func meet() (alice *peer.Room, asBobSees *peer.Peer, end func()) {
	nodes, stop := run(2)
	seen := make(chan *peer.Peer, 1)
	join := func(name, node string, met func(*peer.Peer)) *peer.Room {
		room, err := peer.Join(context.Background(), "my-app", peer.Options{Nodes: []string{node}, Name: name, API: loopback(), OnPeer: met})
		if err != nil {
			panic(err)
		}
		return room
	}
	met := make(chan *peer.Peer, 1)
	alice = join("alice", nodes[0], func(p *peer.Peer) { met <- p })
	bob := join("bob", nodes[1], func(p *peer.Peer) { seen <- p })
	<-met
	return alice, <-seen, func() {
		bob.Leave(context.Background())
		alice.Leave(context.Background())
		stop()
	}
}
