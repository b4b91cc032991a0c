// Package bench loads WebTorrent trackers, ours or anybody's, and measures
// them: [Run] relays offers and answers through one server or through several
// that are federated, [Idle] holds many connections that only wait.
//
// Every payload is made from the ids of those between whom it passes, and is
// compared byte by byte where it arrives: what a server loses, duplicates, gives
// to the wrong member or changes is counted. Latencies of an open loop are
// measured from when a message was due, not from when it was sent.
//
// ids.go makes ids, message.go writes and reads the protocol's messages;
// client.go is one client, ledger.go what it knows of its offers, load.go the
// run; idle.go and worker.go are the many processes of Idle. Package gear has
// the sockets and the payloads, and reads what the servers used. Package signals
// does the same for PeerJS and y-webrtc.
package bench
