package dhtstore

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/anacrolix/dht/v2/krpc"
	"golang.org/x/time/rate"

	"github.com/peerservers/peerserver/protocol"
)

// serverConfig is what a server is made of. Conn is needed, the rest may be
// zero.
type serverConfig struct {
	Conn      net.PacketConn                // yields *net.UDPAddr; serve closes it
	NodeID    [20]byte                      // zero: random. Replaced when BEP 42 does not allow it at our public address
	Bootstrap []string                      // host:port; resolved when needed
	Record    func() *protocol.SignedRecord // answers ps_record, must not block; nil func or nil record: error 204
	Private   bool                          // a testnet or LAN: no BEP 42, no rules per address, limits by ip:port
	Log       *slog.Logger
	Budget    float64 // queries sent per second, 250 if zero; a limiter per server
}

// server is one DHT node: the library's client, transactions and routing
// tables, and our own answers.
//
//	socket ── read ─┬─ queries ──▶ responder (answers, stores) ──▶ socket
//	                └─ answers, cleaned ──▶ library (v4 or v6) ──▶ query's caller
//	query ──▶ library ──▶ transaction id sealed ──▶ socket
//
// All methods but serve may be called from any goroutine, and before serve. A
// server that is made must be served.
type server struct {
	cfg       serverConfig
	families  [2]*family // IPv4 and IPv6; nil for one that the socket cannot
	responder *responder
	budget    *rate.Limiter
	pace      *pacer

	count struct {
		queries, timeouts, answered, limited, malformed, unasked atomic.Uint64
	}
}

// node is a DHT node's id and address. The address is never a v4-mapped one.
type node struct {
	ID   [20]byte
	Addr netip.AddrPort
}

// item is a BEP 44 mutable item.
type item struct {
	Key  [32]byte
	Salt []byte
	Seq  int64
	Sig  [64]byte
	V    []byte // as bencoded
}

// reply is what a node answered. Fields that it did not send are zero.
type reply struct {
	ID    [20]byte
	Nodes []node // at most 16, of the family that was asked, no two with one address
	Token string
	Peers []netip.AddrPort // get_peers: of the family that was asked
	Item  *item            // get: as sent, nothing of it verified but that it is complete; no salt
	Seq   int64            // get: also where the node has no newer item than asked for
}

// errTimeout is that nothing was answered.
var errTimeout = errors.New("no answer")

// errFamily is that the socket cannot reach addresses of this family.
var errFamily = errors.New("not an address that this node's socket can reach")

// newServer makes a server, which neither reads nor sends before serve.
func newServer(cfg serverConfig) (*server, error) {
	if cfg.Conn == nil {
		return nil, errors.New("DHT server needs a PacketConn")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Budget == 0 {
		cfg.Budget = 250
	}
	s := &server{cfg: cfg, budget: rate.NewLimiter(rate.Limit(cfg.Budget), max(1, int(cfg.Budget))), pace: newPacer(cfg.Private)}
	s.responder = newResponder(s)
	local, ok := cfg.Conn.LocalAddr().(*net.UDPAddr)
	if !ok {
		return nil, errors.New("DHT server needs a UDP socket")
	}
	ip := local.AddrPort().Addr().Unmap()
	for i, v6 := range []bool{false, true} {
		if v6 && ip.Is4() || !v6 && ip.Is6() && !ip.IsUnspecified() {
			continue
		}
		f, err := newFamily(s, v6)
		if err != nil {
			return nil, err
		}
		s.families[i] = f
	}
	return s, nil
}

// serve runs the server until ctx ends or the socket is lost. It waits for all
// its goroutines and closes Conn.
func (s *server) serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	for _, f := range s.families {
		if f != nil {
			wg.Go(func() { f.run(ctx) })
		}
	}
	wg.Go(func() { s.responder.run(ctx) })
	lost := make(chan error, 1)
	wg.Go(func() { lost <- s.read(ctx) })
	var err error
	select {
	case <-ctx.Done():
	case err = <-lost:
		cancel()
	}
	closed := s.cfg.Conn.Close()
	wg.Wait()
	if err == nil && !errors.Is(closed, net.ErrClosed) {
		err = closed
	}
	return err
}

// family is nil if the socket cannot reach it.
func (s *server) family(v6 bool) *family {
	if v6 {
		return s.families[1]
	}
	return s.families[0]
}

// hasFamily says whether this server takes part in the IPv4 or the IPv6 DHT.
func (s *server) hasFamily(v6 bool) bool { return s.family(v6) != nil }

// id is the node's present DHT id, to be kept for the next start: the IPv4
// DHT's where there are two.
func (s *server) id() [20]byte {
	if f := s.family(false); f != nil {
		return f.id()
	}
	return s.family(true).id()
}

// ready is closed once a node of that DHT has answered; nil, which is for
// ever, without that family.
func (s *server) ready(v6 bool) <-chan struct{} {
	if f := s.family(v6); f != nil {
		return f.ready
	}
	return nil
}

// publicAddr is our address as others see it, once two thirds of at least 5
// networks agree; not valid before, and always in a private network.
func (s *server) publicAddr(v6 bool) netip.AddrPort {
	if f := s.family(v6); f != nil {
		return f.votes.result()
	}
	return netip.AddrPort{}
}

// ping asks a node whether it is there.
func (s *server) ping(ctx context.Context, addr netip.AddrPort) (*reply, error) {
	return s.query(ctx, addr, "ping", krpc.MsgArgs{}, 2)
}

// findNode asks for the nodes closest to target.
func (s *server) findNode(ctx context.Context, addr netip.AddrPort, target [20]byte) (*reply, error) {
	return s.query(ctx, addr, "find_node", krpc.MsgArgs{Target: target, Want: want(addr.Addr().Is6())}, 1)
}

// getPeers asks for those announced under an infohash, for the nodes closest
// to it, and for the token that announcePeer needs within 5 minutes.
func (s *server) getPeers(ctx context.Context, addr netip.AddrPort, infohash [20]byte) (*reply, error) {
	return s.query(ctx, addr, "get_peers", krpc.MsgArgs{InfoHash: infohash, Want: want(addr.Addr().Is6())}, 1)
}

// announcePeer announces our address under an infohash, with the given port, or
// with the DHT port as the node sees it if that is 0. An error is also that the
// node refused, then a refusal.
func (s *server) announcePeer(ctx context.Context, addr netip.AddrPort, infohash [20]byte, port uint16, token string) error {
	args := krpc.MsgArgs{InfoHash: infohash, Token: token, ImpliedPort: port == 0}
	p := int(port)
	if local, ok := s.cfg.Conn.LocalAddr().(*net.UDPAddr); ok && port == 0 {
		p = local.Port // must be there; who knows implied_port goes by that
	}
	args.Port = &p
	_, err := s.query(ctx, addr, "announce_peer", args, 2)
	return err
}

// get asks for an item newer than seq (0 or less: any), for the nodes closest
// to target, and for the token that put needs within 5 minutes. The caller
// verifies.
func (s *server) get(ctx context.Context, addr netip.AddrPort, target [20]byte, seq int64) (*reply, error) {
	args := krpc.MsgArgs{Target: target, Want: want(addr.Addr().Is6())}
	if seq > 0 {
		args.Seq = &seq
	}
	return s.query(ctx, addr, "get", args, 1)
}

// put stores an item at a node. An error is also that the node refused, then a
// refusal: 205 too big, 206 signature, 207 salt, 301 CAS, 302 seq is lower
// than what it holds, or the same as of another value. cas is never sent.
func (s *server) put(ctx context.Context, addr netip.AddrPort, i *item, token string) error {
	_, err := s.query(ctx, addr, "put", krpc.MsgArgs{
		K: i.Key, Salt: i.Salt, Seq: &i.Seq, Sig: i.Sig, V: bencoded(i.V), Token: token,
	}, 2)
	return err
}

// psRecord is a method of our own.
const psRecord = "ps_record"

// recordPadding makes a ps_record query as long as the longest answer.
const recordPadding = protocol.MaxRecord + 100

// record asks a node for its own signed record, with ps_record: a query with
// nothing but padding, in v, answered in the fields that get's answer has. The
// record is not verified. A stock node answers with error 204, a refusal.
func (s *server) record(ctx context.Context, addr netip.AddrPort) (*protocol.SignedRecord, error) {
	r, err := s.query(ctx, addr, psRecord, krpc.MsgArgs{V: strings.Repeat(" ", recordPadding)}, 2)
	if err != nil {
		return nil, err
	}
	if r.Item == nil {
		return nil, &refusal{Code: errProtocol, Msg: "no record in the answer"}
	}
	return &protocol.SignedRecord{Key: r.Item.Key[:], Seq: r.Item.Seq, Value: r.Item.V, Signature: r.Item.Sig[:]}, nil
}

// query sends one query, up to tries times, 800 ms apart.
func (s *server) query(ctx context.Context, addr netip.AddrPort, method string, args krpc.MsgArgs, tries int) (*reply, error) {
	f := s.family(addr.Addr().Is6())
	if f == nil || !usable(addr) {
		return nil, errFamily
	}
	return f.query(ctx, addr, method, args, tries)
}

// write sends a packet.
func (s *server) write(b []byte, to netip.AddrPort) error {
	_, err := s.cfg.Conn.WriteTo(b, net.UDPAddrFromAddrPort(to))
	return err
}

// closest are the n nodes of the table closest to target, closest first; only
// nodes that answer. v6 chooses between the two DHTs.
func (s *server) closest(target [20]byte, v6 bool, n int) []node {
	if f := s.family(v6); f != nil {
		return f.closest(target, n, anywhere)
	}
	return nil
}

// nodes are all that closest chooses from, of both DHTs, to be kept for the
// next start.
func (s *server) nodes() (all []node) {
	for _, f := range s.families {
		if f != nil {
			all = append(all, f.good()...)
		}
	}
	return all
}

// addNodes adds nodes known from an earlier run, which are used once they have
// answered. It is for before serve.
func (s *server) addNodes(nodes []node) {
	for _, n := range nodes {
		if f := s.family(n.Addr.Addr().Is6()); f != nil && usable(n.Addr) && n.ID != [20]byte{} {
			f.add([]node{n})
		}
	}
}

// serverStats counts since the start, but for the nodes and the stores.
type serverStats struct {
	Nodes4, Nodes6 int    // good ones in the tables
	Queries        uint64 // sent, but for the upkeep of the tables
	Timeouts       uint64 // of them not answered
	Answered       uint64 // queries of others that we replied to
	Limited        uint64 // queries of others dropped by a limit
	Malformed      uint64 // packets dropped unread
	Unasked        uint64 // answers to what we did not ask
	Infohashes     int    // in the store
	Items          int    // in the store
}

func (s *server) stats() serverStats {
	st := serverStats{
		Queries: s.count.queries.Load(), Timeouts: s.count.timeouts.Load(), Answered: s.count.answered.Load(),
		Limited: s.count.limited.Load(), Malformed: s.count.malformed.Load(), Unasked: s.count.unasked.Load(),
		Infohashes: int(s.responder.infohashes.Load()), Items: int(s.responder.stored.Load()),
	}
	if f := s.family(false); f != nil {
		st.Nodes4 = len(f.good())
	}
	if f := s.family(true); f != nil {
		st.Nodes6 = len(f.good())
	}
	return st
}

// sharing says whether nodes share addresses where this one is: then an
// address says nothing about who is behind it.
func (s *server) sharing(a netip.Addr) bool { return s.cfg.Private || private(a) }

// speakable says which addresses we name to a node, and take from one. With one
// on the internet these are none of our own network: they would be of no use to
// it, and it would have us send packets into a place it cannot reach.
func (s *server) speakable(from netip.Addr) func(netip.AddrPort) bool {
	if s.sharing(from) {
		return anywhere
	}
	return func(p netip.AddrPort) bool { return !private(p.Addr()) }
}

func anywhere(netip.AddrPort) bool { return true }

// want is the family of nodes that a node is asked for: those of its own DHT.
func want(v6 bool) []krpc.Want {
	if v6 {
		return []krpc.Want{krpc.WantNodes6}
	}
	return []krpc.Want{krpc.WantNodes}
}

// bencoded is a value that is bencoded already, for the library's encoder.
type bencoded []byte

// MarshalBencode is as the library wants it.
func (b bencoded) MarshalBencode() ([]byte, error) { return b, nil }

// newReply is an answer of the library's, which cleanReply has written.
func newReply(r *krpc.Return) *reply {
	out := &reply{ID: r.ID}
	for _, n := range append(r.Nodes, r.Nodes6...) {
		out.Nodes = append(out.Nodes, node{n.ID, addrPort(n.Addr)})
	}
	for _, v := range r.Values {
		out.Peers = append(out.Peers, addrPort(v))
	}
	if r.Token != nil {
		out.Token = *r.Token
	}
	if r.Seq != nil {
		out.Seq = *r.Seq
		if len(r.V) > 0 {
			out.Item = &item{Key: r.K, Seq: *r.Seq, Sig: r.Sig, V: r.V}
		}
	}
	return out
}
