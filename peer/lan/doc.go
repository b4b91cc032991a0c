// Package lan finds nodes and peers on the local network, and lets two peers
// of an app that have found each other speak without a node.
//
//	b, err := lan.Listen(lan.Config{Key: key, Say: what, Heard: who})
//	...
//	err = b.Serve(ctx)
//
// [Beacons] sends and hears signed beacons by UDP multicast, [Open] makes a
// [Stream] of a TCP connection to somebody who was heard. The wire is in
// protocol/peerserver.proto, "On a LAN". beacons.go says when beacons are sent,
// heard.go what of others' is believed and remembered, machine.go is this
// machine's interfaces, stream.go the connections.
//
// What is heard is a hint: a beacon can be sent again by anybody on the LAN.
// Only what is signed afterwards, or sealed, shows who is there.
package lan
