// Package relay brings the members of an app together: those of this node and,
// over links, those of every other node, as if all were on one server.
//
// A door calls [Relay.Join] for each of its clients and then uses the four
// verbs on the [Member] it gets: [Member.Offer] (to any members),
// [Member.Send] (to one), [Member.Publish] (to all) and presence (the Present
// and WantsPresence fields of [Joining]). What comes back arrives at the
// member's [Sink], which never blocks.
//
// The rooms: swarm.go holds the members of an app here and what is known of
// those elsewhere; offers.go (with meet.go and turns.go), signals.go, publish.go
// and presence.go are the verbs; link.go is one other node, with its sequence, acknowledgements and
// resends; mesh.go decides which nodes to dial; neighbours.go is what a link is
// good for besides (its delay, keys for TURN), probe.go tries ports from outside;
// handshake.go and wsconn.go are the link's inside and outside.
//
// Locks are taken in the order swarm, Relay, link, and none is held over I/O.
// A swarm's lock is held while a Sink delivers, so that what a member is given
// has one order.
package relay
