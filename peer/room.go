package peer

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/pion/transport/v4/stdnet"
	"github.com/pion/webrtc/v4"
	"golang.org/x/time/rate"

	"github.com/peerservers/peerserver/peer/lan"
	"github.com/peerservers/peerserver/protocol"
)

// ErrGone says that the connection to a peer has ended.
var ErrGone = errors.New("peer: the connection has ended")

const (
	namespace       = "peer" // of the native door, in protocol.App
	defaultMaxPeers = protocol.PeerSample
	presenceTTL     = protocol.MaxPresenceTTL
	partWithin      = time.Second     // a node may take this long to see a leave
	drainWithin     = 2 * time.Second // and a peer to take what was sent to it
)

// What Setting says.
const (
	mappedWait   = 200 * time.Millisecond // for a way within one network before one over a NAT
	turnWait     = 2 * time.Second        // for a direct way before one over a TURN server
	pairTries    = 25                     // 200 ms apart: a NAT may open late
	keepalive    = 500 * time.Millisecond
	silentAfter  = 2 * time.Second  // nothing has come: other ways are looked for
	failedAfter  = 28 * time.Second // and after as long besides it has ended
	resendWithin = time.Second
)

// Options say how to join. Only Nodes has to be given, or LAN. Handlers are called one
// at a time for each peer, and may call everything but [Room.Leave]; while one
// runs nothing more is read from that peer.
type Options struct {
	Nodes      []string              // URLs of nodes, ws:// or wss://, with ?token= if private: the first that lets in is used, the others when it is gone
	Cache      string                // file that keeps the nodes that are learnt, for when none of Nodes is reached; none: they are forgotten
	Secret     []byte                // of the app; those who do not know it cannot find it
	Identity   ed25519.PrivateKey    // who this is; nil: somebody new
	Name       string                // shown to the others, at most protocol.MaxPeerName bytes
	Services   []string              // shown too, at most protocol.MaxServices
	Metadata   []byte                // shown too, at most protocol.MaxMetadata bytes
	ICEServers []webrtc.ICEServer    // STUN and TURN to be used instead of those that the node names
	NoNodeICE  bool                  // those that the node names are not used: without ICEServers no server is told of the connections
	MaxPeers   int                   // connections that are made by itself; others may make as many again; 0: 50
	API        *webrtc.API           // nil: one made with Setting
	Log        *slog.Logger          // nil: none
	LAN        bool                  // meet nodes and members on the local network too; Nodes may then be none
	NoRelay    bool                  // never over nodes: who cannot be connected to is no peer
	OnPeer     func(*Peer)           // a connection is open; before any message of it
	OnLeave    func(*Peer)           // it has ended; after all messages of it
	OnMessage  func(*Peer, []byte)   // what the other side gave to Send
	OnChannel  func(*Peer, *Channel) // the other side has opened a channel; without a handler it is closed
	OnPath     func(*Peer)           // it is reached in another way now: Peer.Path

	// OnBroadcast gets what a member sent with Broadcast that is not connected.
	OnBroadcast func(Sender, []byte)

	network lan.Network       // nil: this machine's; tests have one in memory
	listens bool              // Listen has made it
	dialled *dialled          // nil: Dial has not
	addrs   func() addressSet // nil: of this machine; tests move
}

// Room is a membership of one app.
type Room struct {
	// Static after Join.
	opts   Options
	log    *slog.Logger
	api    *webrtc.API
	key    ed25519.PrivateKey
	app    protocol.AppID
	secret protocol.AppSecret

	broadcastKey [16]byte
	commands     *commands
	strangers    chan stranger
	pace         *rate.Limiter // of what is relayed

	self    protocol.Member
	seal    protocol.SealKey
	homes   *homes
	local   *local // nil: not on a LAN
	servers *servers

	work     context.Context //nolint:containedctx // of all negotiations and connections: they end with the room
	stopWork context.CancelFunc
	wire     context.Context //nolint:containedctx // of the socket, which has to outlive them to say goodbye
	stopWire context.CancelFunc
	working  sync.WaitGroup // goroutines of members
	all      sync.WaitGroup // the others
	left     chan struct{}  // closed when Leave is done
	leaving  sync.Once

	mu      sync.Mutex
	members map[protocol.Member]*member
	running int // members with a goroutine
	peers   map[*Peer]struct{}
	socket  *socket // nil while there is none
	epoch   int     // counts joins: what was shown in an older one is doubtful
	total   int     // members of the app, as the node counts them
	roamed  bool    // this machine's network is another one, and there was no node since
	redial  func()  // ends the dialling that there is, if there is any
	closed  bool

	broadcasts uint64 // sequence of the newest
	ref        uint32 // the newest
	relays     map[uint32]*relay
	forwards   map[uint32]asked // by the ref of a Forward that is not answered
}

// Setting is how this package has pion connect, to be changed and given back in
// [Options].API.
func Setting() webrtc.SettingEngine {
	var s webrtc.SettingEngine
	s.SetNet(sockets{new(stdnet.Net)})
	// How long a better way has before one is taken that works: pion stays with it.
	// A browser hides its addresses behind names that are not resolved here: what
	// comes from it is the first that is known of it, and most often the best. But
	// it may also come from its TURN server, of which is heard a moment later.
	s.SetPrflxAcceptanceMinWait(mappedWait)
	s.SetSrflxAcceptanceMinWait(mappedWait)
	s.SetRelayAcceptanceMinWait(turnWait)
	s.SetICEMaxBindingRequests(pairTries)
	// Silence is noticed early, and what was not acknowledged goes out again soon
	// after there is a way again.
	s.SetICETimeouts(silentAfter, failedAfter, keepalive)
	s.SetSCTPRTOMax(resendWithin)
	return s
}

// Join makes this process a member of an app on one of the nodes and connects
// it to the other members. It returns when a node has let it in, or when none
// has; ctx bounds that, and nothing later. With Options.LAN it may do without a
// node, and joins on one when it can.
func Join(ctx context.Context, app string, o Options) (*Room, error) {
	r, err := newRoom(app, o)
	if err != nil {
		return nil, err
	}
	if o.LAN {
		if err := r.openLAN(); err != nil {
			r.giveUp()
			return nil, err
		}
		r.all.Go(r.local.serve)
	}
	s, err := r.enter(ctx)
	if err != nil && (!o.LAN || errors.Is(ctx.Err(), context.Canceled)) {
		r.giveUp()
		return nil, err
	}
	if s != nil {
		r.enters(s)
	}
	r.all.Go(func() { r.run(s) }) //nolint:contextcheck // ctx bounds the joining, and nothing later
	r.all.Go(r.deliverStrangers)
	r.all.Go(r.watchAddresses)
	return r, nil
}

// giveUp ends a room that is none.
func (r *Room) giveUp() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.stopWork()
	r.working.Wait()
	r.stopWire()
	r.all.Wait()
}

func newRoom(app string, o Options) (*Room, error) {
	r := &Room{
		opts: o, log: o.Log, api: o.API, key: o.Identity, left: make(chan struct{}),
		members: make(map[protocol.Member]*member), peers: make(map[*Peer]struct{}),
		servers: newServers(&o), relays: make(map[uint32]*relay), forwards: make(map[uint32]asked), ref: firstRef,
		commands: newCommands(), strangers: make(chan stranger, maxSpreads), pace: rate.NewLimiter(relayPace, relayBurst),
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.api == nil {
		r.api = webrtc.NewAPI(webrtc.WithSettingEngine(Setting()))
	}
	if r.opts.MaxPeers <= 0 {
		r.opts.MaxPeers = defaultMaxPeers
	}
	var err error
	if r.homes, err = newHomes(o.Nodes, o.LAN); err != nil {
		return nil, err
	}
	if o.Cache != "" {
		if err = r.homes.recall(o.Cache); err != nil {
			return nil, fmt.Errorf("peer: the nodes that are kept: %w", err)
		}
	}
	if d := o.dialled; d != nil {
		r.homes.pin(d.node)
	}
	if r.key == nil {
		_, r.key, _ = ed25519.GenerateKey(nil) // from crypto/rand, which does not fail
	}
	if len(r.key) != ed25519.PrivateKeySize {
		return nil, errIdentity()
	}
	r.app = protocol.App(namespace, []byte(app), o.Secret)
	r.secret = protocol.SealSecret(r.app, o.Secret)
	r.broadcastKey = protocol.BroadcastKey(r.app, []byte(app), o.Secret)
	r.self.Peer = protocol.PeerID(r.key.Public().(ed25519.PublicKey))
	rand.Read(r.self.Session[:])
	var random [32]byte
	rand.Read(random[:])
	if r.seal, err = protocol.NewSealKey(random); err != nil {
		return nil, err
	}
	if _, err = r.presence(); err != nil {
		return nil, err
	}
	r.work, r.stopWork = context.WithCancel(context.Background())
	r.wire, r.stopWire = context.WithCancel(context.Background())
	return r, nil
}

// presence shows this member, signed now.
func (r *Room) presence() (*protocol.SignedPresence, error) {
	p := &protocol.PeerPresence{
		Member: r.self, Seal: r.seal.Public(), Issued: time.Now(), TTL: presenceTTL,
		Name: r.opts.Name, Services: r.opts.Services, Metadata: r.opts.Metadata,
	}
	if err := protocol.SignPresence(r.key, r.app, p); err != nil {
		return nil, err
	}
	return p.Signed, nil
}

// ID is who this process is in the app.
func (r *Room) ID() protocol.PeerID { return r.self.Peer }

// Session tells this membership apart from others of the same identity.
func (r *Room) Session() protocol.Session { return r.self.Session }

// Peers are those with an open connection, ordered by id.
func (r *Room) Peers() []*Peer {
	r.mu.Lock()
	list := make([]*Peer, 0, len(r.peers))
	for p := range r.peers {
		list = append(list, p)
	}
	r.mu.Unlock()
	slices.SortFunc(list, func(a, b *Peer) int { return bytes.Compare(a.member().Bytes(), b.member().Bytes()) })
	return list
}

// Node is the URL of the node that the room is on, "" while there is none.
func (r *Room) Node() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.socket == nil {
		return ""
	}
	return r.socket.url
}

// newRef makes a ref of what is asked of a node or a peer.
func (r *Room) newRef() uint32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ref++; r.ref < firstRef {
		r.ref = firstRef
	}
	return r.ref
}

// Leave says goodbye, closes all connections and waits until everything that
// the room has started is over. What was sent before has up to two seconds to
// arrive. It may be called more than once; ctx bounds only the waiting.
func (r *Room) Leave(ctx context.Context) error {
	r.leaving.Do(func() {
		go func() { // ends with left, which the first and every other caller waits for
			defer close(r.left)
			r.mu.Lock()
			r.closed = true
			r.mu.Unlock()
			r.stopWork()
			r.working.Wait()
			r.part()
			r.stopWire()
			r.all.Wait()
		}()
	})
	select {
	case <-r.left:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// part tells the node, if there is one, and waits for its answer.
func (r *Room) part() {
	r.mu.Lock()
	s := r.socket
	r.mu.Unlock()
	if s == nil {
		return
	}
	s.send(&protocol.ToNode{Ref: refPart, Body: &protocol.ToNode_Part{Part: &protocol.Part{App: r.app[:], Session: r.self.Session[:]}}})
	select {
	case <-s.parted:
	case <-s.done:
	case <-time.After(partWithin):
	}
}
