// Package dhtstore finds the nodes that serve an app, over BitTorrent's
// mainline DHT, and makes this node findable.
//
// A Store is opened on a UDP socket and served until its context ends:
//
//	store, err := dhtstore.Open(dhtstore.Config{Conn: conn, Key: key, Dir: dir})
//	go store.Serve(ctx)
//
// The two calls to begin with are SetOwn, which says at which URLs this node
// can be dialled, and Want, which announces an app and reports other nodes
// that serve it:
//
//	store.SetOwn(protocol.Record{URLs: []string{"wss://node.example"}})
//	store.Want(app, func(r *protocol.Record) { dial(r.URLs) })
//
// There are three layers, of which only the last one proves anything:
//
//   - Rendezvous. A node announces itself (BEP 5's announce_peer) under a key
//     made of the app and the day. Anybody can announce anything there: what
//     is found are candidates.
//   - The signed record, protocol.SignedRecord. A candidate is asked for it with
//     ps_record, a query of our own, and is passed on once it has answered with
//     a valid one. The same record is a BEP 44 item, by which Resolve finds a
//     node whose id is known.
//   - The handshake of the link, which is relay's.
//
// ps_record is a KRPC query whose only argument besides id is v, padding that
// makes it as long as its answer. The answer has k, seq, sig and v as that of a
// BEP 44 get. A node without a record answers with error 204.
//
// The lower half of the package (server and what it uses) is a DHT node; the
// upper half (Store) decides what is asked and announced, when, and what to
// believe.
package dhtstore
