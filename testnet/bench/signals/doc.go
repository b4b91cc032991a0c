// Package signals loads servers of PeerJS and of y-webrtc, ours or those of
// reference, and measures them: [Run] relays signals of about 1 KB through one
// server or through several that are federated, [Idle] holds connections that
// only wait.
//
// Clients sit in rooms: two ids that send to each other with PeerJS, the
// subscribers of a topic with y-webrtc. The members of a room are spread over the
// servers, so that with two servers and rooms of two every signal crosses. Every
// signal is made from its sender and its number and compared byte by byte where it
// arrives; what is lost, comes twice, out of order, to the wrong client or changed
// is counted.
//
// peerjs.go and ywebrtc.go are the two protocols; client.go is one client,
// ledger.go what it knows of its signals, run.go what comes before load.go.
package signals
