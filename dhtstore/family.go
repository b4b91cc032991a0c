package dhtstore

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"math/bits"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anacrolix/dht/v2"
	"github.com/anacrolix/dht/v2/krpc"
	"github.com/anacrolix/log"
)

const (
	bucketSize   = 8
	pings        = 8 // of nodes that asked us, at a time
	maxUnpinged  = 64
	upkeep       = 10 * time.Second
	bootstrapMax = time.Minute
	resendDelay  = 800 * time.Millisecond // the library's 2 s make a lookup among dead nodes last 6
)

// family is our part in one of the two DHTs, IPv4's and IPv6's. They have
// nothing in common but the socket and the stores (BEP 32).
type family struct {
	server *server
	v6     bool
	mac    *transactionMAC
	known  *contacts
	votes  *votes
	ask    chan node // that asked us, to be pinged

	ready     chan struct{} // closed when a node has answered
	readyOnce sync.Once

	lib atomic.Pointer[library] // replaced when the id is
}

// library is one server of the library's, with its socket.
type library struct {
	*dht.Server
	conn *libConn
}

func newFamily(s *server, v6 bool) (*family, error) {
	f := &family{
		server: s, v6: v6, mac: newTransactionMAC(), known: newContacts(), votes: newVotes(),
		ask: make(chan node, maxUnpinged), ready: make(chan struct{}),
	}
	id := s.cfg.NodeID
	for id == [20]byte{} {
		_, _ = rand.Read(id[:]) // never fails
	}
	return f, f.start(id)
}

// start gives the family a new table under a new id. The one before, if any,
// is the caller's to close.
func (f *family) start(id [20]byte) error {
	conn := newLibConn(f)
	lib, err := dht.NewServer(&dht.ServerConfig{
		NodeId: id, Conn: conn, NoSecurity: f.server.cfg.Private,
		OnQuery:          func(*krpc.Msg, net.Addr) bool { return false }, // it gets none; if it did, it must not answer
		QueryResendDelay: func() time.Duration { return resendDelay },
		DefaultWant:      want(f.v6),
		SendLimiter:      f.server.budget, // the default is one for the whole process
		Logger:           log.NewLogger("dht").FilterLevel(log.Critical),
	})
	if err == nil {
		f.lib.Store(&library{lib, conn})
	}
	return err
}

func (f *family) id() [20]byte { return f.lib.Load().ID() }

// run keeps the table, until ctx ends.
func (f *family) run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { f.bootstrap(ctx) })
	wg.Go(func() { f.pingAskers(ctx) })
	for over := false; !over; {
		lib := f.lib.Load()
		wg.Go(lib.maintain)
		over = f.untilRekeyed(ctx)
		lib.Close()
		<-lib.conn.closed // Close does not wait
	}
	wg.Wait()
}

// maintain keeps the library's table until the library is closed. Its
// maintainer leaves a goroutine behind each minute for which there is no node
// to start with.
func (l *library) maintain() {
	for l.NumNodes() == 0 {
		select {
		case <-time.After(time.Second):
		case <-l.conn.closed:
			return
		}
	}
	l.TableMaintainer()
}

// untilRekeyed returns when there is a new library, or, with true, when ctx
// has ended.
func (f *family) untilRekeyed(ctx context.Context) bool {
	tick := time.NewTicker(upkeep)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return true
		case now := <-tick.C:
			f.known.sweep(now)
			good := f.good() // also keeps what we know about them fresh
			public := f.votes.result()
			if !public.IsValid() || f.server.cfg.Private || secure(f.id(), public.Addr()) {
				continue
			}
			if err := f.start(secureID(public.Addr())); err != nil {
				f.server.cfg.Log.Error("DHT id could not be changed", "err", err)
				continue
			}
			f.server.cfg.Log.Info("DHT id changed to one that BEP 42 allows at our address", "v6", f.v6)
			f.add(good)
			return false
		}
	}
}

// secureID is a random id that BEP 42 allows at an address.
func secureID(a netip.Addr) [20]byte {
	var id krpc.ID
	_, _ = rand.Read(id[:]) // never fails
	dht.SecureNodeId(&id, a.AsSlice())
	return id
}

// bootstrap looks for ourselves, which makes us known to our neighbours and
// them to us, and again while there are few of them.
func (f *family) bootstrap(ctx context.Context) {
	wait := time.Second
	for ctx.Err() == nil {
		good := len(f.good())
		if good < bucketSize {
			f.server.traverse(ctx, walk{target: f.id(), v6: f.v6, do: func(ctx context.Context, addr netip.AddrPort) (*reply, error) {
				return f.server.findNode(ctx, addr, f.id())
			}})
		}
		if len(f.good()) > good {
			wait = time.Second
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
		wait = min(2*wait, bootstrapMax)
	}
}

// pingAskers pings nodes that have asked us something, so that they come into
// the table: not before they have answered, as anybody can ask in another's
// name.
func (f *family) pingAskers(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	free := make(chan struct{}, pings)
	for {
		select {
		case n := <-f.ask:
			if f.known.isDead(n.Addr, time.Now()) {
				continue
			}
			select {
			case free <- struct{}{}:
			case <-ctx.Done():
				return
			}
			wg.Go(func() {
				_, _ = f.query(ctx, n.Addr, "ping", krpc.MsgArgs{}, 1) // known.answered does the rest
				<-free
			})
		case <-ctx.Done():
			return
		}
	}
}

// asked takes note of a node that has asked us something.
func (f *family) asked(n node, now time.Time) {
	if f.known.asked(n, now) || !f.room(n.ID) || !(f.server.cfg.Private || secure(n.ID, n.Addr.Addr())) {
		return
	}
	select {
	case f.ask <- n:
	default:
	}
}

// room says whether the table's bucket for an id is not full.
func (f *family) room(id [20]byte) bool {
	own := f.id()
	depth := prefixLen(own, id)
	n := 0
	for _, g := range f.good() {
		if prefixLen(own, g.ID) == depth {
			n++
		}
	}
	return n < bucketSize && id != own
}

func prefixLen(a, b [20]byte) int {
	for i := range a {
		if x := a[i] ^ b[i]; x != 0 {
			return 8*i + bits.LeadingZeros8(x)
		}
	}
	return 8 * len(a)
}

// answered hands the library an answer to a query of its own.
func (f *family) answered(p packet, from netip.AddrPort) {
	t, ok := f.mac.open(p.t, from)
	if !ok {
		f.server.count.unasked.Add(1)
		return
	}
	b, ok := p.cleanReply(t, f.v6, f.server.speakable(from.Addr()))
	if !ok {
		f.server.count.malformed.Add(1)
		return
	}
	if id, ok := p.sender(); ok {
		f.known.answered(node{id, from}, time.Now())
		f.readyOnce.Do(func() { close(f.ready) })
	} else {
		f.known.alive(from)
	}
	if us, ok := parseAddr(p.ip, f.v6); ok && !f.server.cfg.Private {
		f.votes.add(from.Addr(), us)
	}
	f.lib.Load().conn.pass(b, from)
}

// send sends a query of the library's.
func (f *family) send(b []byte, to netip.AddrPort) error {
	if f.known.spare(to, time.Now()) {
		return errTimeout
	}
	return f.server.write(f.mac.seal(b, to), to)
}

// query asks one node, up to tries times.
func (f *family) query(ctx context.Context, addr netip.AddrPort, method string, args krpc.MsgArgs, tries int) (*reply, error) {
	if err := f.server.pace.wait(ctx, addr); err != nil {
		return nil, err
	}
	defer f.known.ask(addr)()
	f.server.count.queries.Add(1)
	res := f.lib.Load().Query(ctx, dht.NewAddr(net.UDPAddrFromAddrPort(addr)), method, dht.QueryInput{
		MsgArgs: args, NumTries: tries, RateLimiting: dht.QueryRateLimiting{WaitOnRetries: true},
	})
	switch {
	case errors.Is(res.Err, dht.TransactionTimeout):
		f.server.count.timeouts.Add(1)
		if method != psRecord { // which some do not answer because they do not know it
			f.known.silent(addr, time.Now())
		}
		return nil, errTimeout
	case res.Err != nil:
		return nil, res.Err
	case res.Reply.E != nil:
		return nil, *res.Reply.E
	case res.Reply.R == nil:
		return nil, errTimeout // cannot be: cleanReply writes one or the other
	}
	return newReply(res.Reply.R), nil
}

// good are the nodes of the table that answer. The result must not be changed.
func (f *family) good() []node {
	return f.known.good(f.table, time.Now())
}

func (f *family) table() (all []node) {
	for _, n := range f.lib.Load().Nodes() {
		all = append(all, node{n.ID, addrPort(n.Addr)})
	}
	return all
}

// closest are the n good nodes closest to target, over all buckets, closest
// first.
func (f *family) closest(target [20]byte, n int, keep func(netip.AddrPort) bool) []node {
	best := make([]node, 0, n+1)
	for _, g := range f.good() {
		if len(best) == n && !closer(g.ID, best[n-1].ID, target) || !keep(g.Addr) {
			continue
		}
		at := len(best)
		for at > 0 && closer(g.ID, best[at-1].ID, target) {
			at--
		}
		best = append(best, node{})
		copy(best[at+1:], best[at:])
		best[at] = g
		best = best[:min(len(best), n)]
	}
	return best
}

// closer says whether a is closer to target than b.
func closer(a, b, target [20]byte) bool {
	da, db := distance(a, target), distance(b, target)
	return bytes.Compare(da[:], db[:]) < 0
}

func distance(a, b [20]byte) (d [20]byte) {
	for i := range d {
		d[i] = a[i] ^ b[i]
	}
	return d
}

// unproven are the nodes of the table closest to target, whether they answer
// or not.
func (f *family) unproven(target [20]byte, n int) []node {
	all := f.table()
	slices.SortFunc(all, func(a, b node) int {
		da, db := distance(a.ID, target), distance(b.ID, target)
		return bytes.Compare(da[:], db[:])
	})
	return all[:min(n, len(all))]
}

// add puts nodes into the library's table, unproven; its maintainer asks
// them.
func (f *family) add(nodes []node) {
	for _, n := range nodes {
		_ = f.lib.Load().AddNode(libNode(n)) // refused is refused
	}
}
