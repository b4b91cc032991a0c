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
// Nodes bring peers together and do not see what is said, nor the addresses of
// peers among themselves, unless a connection goes over their TURN server. Give
// [Options].Secret, 128 bits or more, to be met only by those who know it.
//
// Connections use the STUN and TURN servers that the node names: its own, and those
// of two others at most. [Options].ICEServers replaces them, and NoNodeICE uses none.
// [Peer.Way] says how a peer is reached and why not in a better way, [Room.Diagnose]
// what stands between. When the network changes, connections go on in the new one.
//
// The wire is in protocol/peerserver.proto, "The native door" and "Between
// peers". room.go is the membership, home.go and socket.go its connection to a
// node, roster.go who else is there. member.go is one of those, and negotiate.go,
// attempt.go and restart.go the connection to it; servers.go are those that it uses,
// sockets.go the network below pion, way.go how it goes, roam.go another network,
// diagnose.go and try.go what is wrong; relayed.go, relay.go and
// pieces.go the way over nodes when there is none. peer.go, deliver.go and
// channel.go are what the app has of it, control.go, links.go and forward.go what
// peers say to each other besides, broadcast.go what they say to all; calls.go,
// caller.go and answer.go are the calls.
package peer
