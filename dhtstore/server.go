package dhtstore

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/anacrolix/dht/v2"
	"github.com/anacrolix/dht/v2/krpc"
	peer_store "github.com/anacrolix/dht/v2/peer-store"
	"github.com/anacrolix/log"
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
// tables, and our own answers. All methods but serve may be called from any
// goroutine, and before serve.
type server struct {
	cfg   serverConfig
	lib   *dht.Server
	limit *rate.Limiter
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
	s := &server{cfg: cfg, limit: rate.NewLimiter(rate.Limit(cfg.Budget), int(cfg.Budget))}
	lib, err := dht.NewServer(&dht.ServerConfig{
		NodeId: cfg.NodeID, Conn: cfg.Conn, NoSecurity: cfg.Private, Exp: 2 * time.Hour,
		PeerStore: &peer_store.InMemory{}, DefaultWant: []krpc.Want{krpc.WantNodes}, SendLimiter: s.limit,
		QueryResendDelay: func() time.Duration { return 800 * time.Millisecond },
		Logger:           log.NewLogger("dht").FilterLevel(log.Critical),
	})
	s.lib = lib
	return s, err
}

// serve runs the server until ctx ends or the socket is lost. It waits for all
// its goroutines and closes Conn.
func (s *server) serve(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(s.lib.TableMaintainer)
	wg.Go(func() {
		for delay := time.Second; ctx.Err() == nil; delay = min(2*delay, time.Minute) {
			if len(s.closest([20]byte{}, false, 1)) == 0 {
				s.traverse(ctx, walk{target: s.id(), do: func(ctx context.Context, addr netip.AddrPort) (*reply, error) {
					return s.findNode(ctx, addr, s.id())
				}})
			}
			select {
			case <-time.After(delay):
			case <-ctx.Done():
			}
		}
	})
	<-ctx.Done()
	s.lib.Close()
	wg.Wait()
	return nil
}

// id is the node's present DHT id, to be kept for the next start.
func (s *server) id() [20]byte { return s.lib.ID() }

// ping asks a node whether it is there.
func (s *server) ping(ctx context.Context, addr netip.AddrPort) (*reply, error) {
	return s.query(ctx, addr, "ping", krpc.MsgArgs{}, 2)
}

// findNode asks for the nodes closest to target.
func (s *server) findNode(ctx context.Context, addr netip.AddrPort, target [20]byte) (*reply, error) {
	return s.query(ctx, addr, "find_node", krpc.MsgArgs{Target: target, Want: want(addr)}, 1)
}

// getPeers asks for those announced under an infohash, for the nodes closest
// to it, and for the token that announcePeer needs.
func (s *server) getPeers(ctx context.Context, addr netip.AddrPort, infohash [20]byte) (*reply, error) {
	return s.query(ctx, addr, "get_peers", krpc.MsgArgs{InfoHash: infohash, Want: want(addr)}, 1)
}

// announcePeer announces our address under an infohash, with the given port, or
// with the DHT port as the node sees it if that is 0. An error is also that the
// node refused, then a krpc.Error.
func (s *server) announcePeer(ctx context.Context, addr netip.AddrPort, infohash [20]byte, port uint16, token string) error {
	args := krpc.MsgArgs{InfoHash: infohash, Token: token, ImpliedPort: port == 0}
	p := int(port)
	if p == 0 {
		p = int(addr.Port()) // must be there; the node goes by implied_port
	}
	args.Port = &p
	_, err := s.query(ctx, addr, "announce_peer", args, 2)
	return err
}

// get asks for an item newer than seq (0 or less: any), for the nodes closest
// to target, and for the token that put needs. The caller verifies.
func (s *server) get(ctx context.Context, addr netip.AddrPort, target [20]byte, seq int64) (*reply, error) {
	args := krpc.MsgArgs{Target: target, Want: want(addr)}
	if seq > 0 {
		args.Seq = &seq
	}
	return s.query(ctx, addr, "get", args, 1)
}

// put stores an item at a node. An error is also that the node refused, then a
// krpc.Error: 205 too big, 206 signature, 207 salt, 301 CAS, 302 seq is lower
// than, or the same as with another value, what it holds. cas is never sent.
func (s *server) put(ctx context.Context, addr netip.AddrPort, i *item, token string) error {
	_, err := s.query(ctx, addr, "put", krpc.MsgArgs{
		K: i.Key, Salt: i.Salt, Seq: &i.Seq, Sig: i.Sig, V: bencoded(i.V), Token: token,
	}, 2)
	return err
}

// record asks a node for its own signed record, which is not verified. A stock
// node answers with error 204, as a krpc.Error.
func (s *server) record(ctx context.Context, addr netip.AddrPort) (*protocol.SignedRecord, error) {
	r, err := s.query(ctx, addr, "ps_record", krpc.MsgArgs{}, 2)
	if err != nil {
		return nil, err
	}
	if r.Item == nil {
		return nil, errors.New("no record in the answer")
	}
	return &protocol.SignedRecord{Key: r.Item.Key[:], Seq: r.Item.Seq, Value: r.Item.V, Signature: r.Item.Sig[:]}, nil
}

// bencoded is a value that is bencoded already, for the library's encoder.
type bencoded []byte

// MarshalBencode is as the library wants it.
func (b bencoded) MarshalBencode() ([]byte, error) { return b, nil }

// want is the family of nodes that a node is asked for: those of its own DHT,
// BEP 32 has one for each.
func want(addr netip.AddrPort) []krpc.Want {
	if addr.Addr().Is4() {
		return []krpc.Want{krpc.WantNodes}
	}
	return []krpc.Want{krpc.WantNodes6}
}

// query sends one query, up to tries times, 800 ms apart.
func (s *server) query(ctx context.Context, addr netip.AddrPort, method string, args krpc.MsgArgs, tries int) (*reply, error) {
	res := s.lib.Query(ctx, dht.NewAddr(net.UDPAddrFromAddrPort(addr)), method, dht.QueryInput{
		MsgArgs: args, NumTries: tries, RateLimiting: dht.QueryRateLimiting{WaitOnRetries: true},
	})
	switch {
	case errors.Is(res.Err, dht.TransactionTimeout):
		return nil, errTimeout
	case res.Err != nil:
		return nil, res.Err
	case res.Reply.E != nil:
		return nil, *res.Reply.E
	case res.Reply.R == nil:
		return nil, errors.New("neither an answer nor an error")
	}
	return newReply(res.Reply.R), nil
}

func newReply(r *krpc.Return) *reply {
	out := &reply{ID: r.ID}
	for _, n := range append(r.Nodes, r.Nodes6...) {
		out.Nodes = append(out.Nodes, node{n.ID, n.Addr.ToNodeAddrPort().AddrPort})
	}
	for _, v := range r.Values {
		out.Peers = append(out.Peers, v.ToNodeAddrPort().AddrPort)
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

// closest are the n nodes of the table closest to target, closest first; only
// nodes that have answered within 15 minutes. v6 chooses between the two DHTs.
func (s *server) closest(target [20]byte, v6 bool, n int) []node {
	all := s.nodes()
	sortByDistance(all, target)
	return all[:min(n, len(all))]
}

// nodes are all that closest chooses from, to be kept for the next start.
func (s *server) nodes() (all []node) {
	for _, n := range s.lib.Nodes() {
		all = append(all, node{n.ID, n.Addr.ToNodeAddrPort().AddrPort})
	}
	return all
}

// addNodes adds nodes known from an earlier run, which are used once they have
// answered.
func (s *server) addNodes(nodes []node) {
	for _, n := range nodes {
		_ = s.lib.AddNode(krpc.NodeInfo{ID: n.ID, Addr: krpc.NodeAddr{IP: n.Addr.Addr().AsSlice(), Port: int(n.Addr.Port())}})
	}
}

// hasFamily says whether this server takes part in the IPv4 or the IPv6 DHT:
// whether its socket can.
func (s *server) hasFamily(v6 bool) bool { return !v6 }

// publicAddr is our address as others see it, once enough of them agree; not
// valid before. In a private network nobody is asked.
func (s *server) publicAddr(v6 bool) netip.AddrPort { return netip.AddrPort{} }

// serverStats counts since the start, but for the nodes.
type serverStats struct {
	Nodes4, Nodes6 int    // good ones in the tables
	Queries        uint64 // sent
	Timeouts       uint64 // of them not answered
	Answered       uint64 // queries of others that we replied to
	Limited        uint64 // queries of others dropped by a limit
	Malformed      uint64 // packets dropped unread
	Infohashes     int    // in the store
	Items          int    // in the store
}

func (s *server) stats() serverStats { return serverStats{Nodes4: len(s.nodes())} }
