// Package peer connects programs to each other over WebRTC: [Join] an app on
// any node of the federation, and every other member of it becomes a [Peer]
// with a data channel.
//
//	room, err := peer.Join(ctx, "my-app", peer.Options{
//		Nodes:     []string{"wss://node.example.org", "wss://other.example.org"},
//		OnPeer:    func(p *peer.Peer) { p.Send(ctx, []byte("hello")) },
//		OnMessage: func(p *peer.Peer, b []byte) { fmt.Println(p.Name(), string(b)) },
//	})
//
// Nodes bring peers together and see neither addresses nor what is said. Give
// [Options].Secret, 128 bits or more, to be met only by those who know it.
//
// The wire is in protocol/peerserver.proto, "The native door". room.go is the
// membership, home.go and socket.go its connection to a node, roster.go who
// else is there, member.go and negotiate.go the way to one of them, peer.go and
// channel.go what comes of it; calls.go, caller.go and answer.go are the calls.
package peer
