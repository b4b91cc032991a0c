// Package testnet runs several nodes in one process, for tests that need to see
// them meet, lose each other and meet again.
//
//	net := testnet.Start(t, 3)
//	alice, bob := net.Join("alice", 0), net.Join("bob", 1)
//	alice.Meets(bob)
//	net.Cut(0, 1)
//
// [Start] gives the nodes and ends them with the test; [Net.Join] gives a peer
// that speaks a public tracker's protocol to its node and WebRTC to the others,
// so that what a test sees is what an app would. Nodes are real, with real
// ports on loopback; only the links between them pass through this package,
// which can cut, delay and record them.
package testnet
