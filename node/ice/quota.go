package ice

// Quota bounds what TURN may be used for. A zero field takes its default; a
// negative one is no bound, but for Allocations and Conns, which the node's
// memory depends on. A peer is who credentials were issued to, an address
// that of a client, IPv6 by its /64, and an issuer another node which issues
// credentials for this one's TURN: its peers have a quarter of what is there for
// all, together.
//
// A browser allocates once for each connection, for each URL of a TURN server
// and for each of its interfaces, which is why a peer may have so many.
type Quota struct {
	Allocations        int // in all; 1,000
	PeerAllocations    int // 64
	AddressAllocations int // 128
	PeerNew            int // allocations a minute that a peer may make; 60

	// Bytes are those of relayed datagrams, both ways together, with 28 each for
	// the headers of IP and UDP.
	PeerRate int64 // a second; 2 MiB
	NodeRate int64 // 32 MiB
	PeerDay  int64 // a day, UTC; 8 GiB
	NodeDay  int64 // 128 GiB

	Conns        int // over TCP and TLS, in all; 1,000
	AddressConns int // 128

	Requests int // a second, of one address that has no allocation; 20, and 100 at once
}

func (q Quota) withDefaults() Quota {
	for _, f := range []struct {
		v *int
		d int
	}{
		{&q.Allocations, 1000},
		{&q.PeerAllocations, 64},
		{&q.AddressAllocations, 128},
		{&q.PeerNew, 60},
		{&q.Conns, 1000},
		{&q.AddressConns, 128},
		{&q.Requests, 20},
	} {
		if *f.v == 0 || (*f.v < 0 && (f.v == &q.Allocations || f.v == &q.Conns)) {
			*f.v = f.d
		}
	}
	for _, f := range []struct {
		v *int64
		d int64
	}{
		{&q.PeerRate, 2 << 20},
		{&q.NodeRate, 32 << 20},
		{&q.PeerDay, 8 << 30},
		{&q.NodeDay, 128 << 30},
	} {
		if *f.v == 0 {
			*f.v = f.d
		}
	}
	return q
}
