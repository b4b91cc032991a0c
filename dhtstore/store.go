package dhtstore

import (
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

const (
	turnsAtOnce   = 16
	saveEvery     = 5 * time.Second
	saveTableEach = 6 // times that
)

// Config is what a Store is made of. Conn and Key are needed.
type Config struct {
	Conn  net.PacketConn // UDP; of IPv4, IPv6 or both. The Store closes it
	Conn6 net.PacketConn // UDP; if not nil it is used for IPv6, and Conn for IPv4 only

	Key ed25519.PrivateKey // whose public half is the NodeID

	// Dir is the data folder, in which the file dht.db is the Store's: what it
	// needs to find others again after a restart, without any help. Empty: all
	// is in memory.
	Dir string
	// Bootstrap is where to meet the DHT, host:port. Nil means the well-known
	// nodes of mainline; empty and not nil, none.
	Bootstrap []string
	// NoAnnounce has the node find others without being found: it announces
	// and publishes nothing.
	NoAnnounce bool
	// Private is for testnets and LANs: nodes on private and loopback addresses
	// count, and several on one address.
	Private bool
	Log     *slog.Logger // nil: none
}

// mainline's well-known nodes.
func wellKnown() []string {
	return []string{
		"router.bittorrent.com:6881", "dht.transmissionbt.com:6881", "router.utorrent.com:6881",
		"dht.libtorrent.org:25401", "router.silotis.us:6881",
	}
}

// Store is one node's part in the DHT. Its methods may be called from any
// goroutine, before Serve too, and do not block unless they take a context. It
// implements relay.Finder.
type Store struct {
	// Static.
	cfg     Config
	log     *slog.Logger
	self    protocol.NodeID
	servers []*server
	sides   []side
	own     *ownRecord
	cache   *cache
	disk    *disk // nil: none
	opened  time.Time

	wake       chan struct{} // the schedule has changed
	errandWake chan struct{}

	mu         sync.Mutex
	schedule   *schedule
	apps       map[protocol.AppID]*wanted
	publishers []*publisher
	flights    map[netip.AddrPort]*flight
	errands    []errand
	changed    map[protocol.AppID]bool // wanted or not, since the disk has seen it
	proven     []string
	provenNew  bool      // the disk has not seen them
	ready      time.Time // when a node of the DHT first answered
	rate       float64   // packets a second, lately
}

// side is our part in one of the two DHTs, IPv4's or IPv6's.
type side struct {
	srv  *server
	v6   bool
	self netip.AddrPort // where our own socket answers
}

// Open makes a Store and reads its file. Serve has to be called then: it is what
// closes the socket and the file in the end.
func Open(cfg Config) (*Store, error) {
	if cfg.Conn == nil {
		return nil, errors.New("dhtstore: Config.Conn is missing")
	}
	if len(cfg.Key) != ed25519.PrivateKeySize {
		return nil, errors.New("dhtstore: Config.Key is missing")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Bootstrap == nil {
		cfg.Bootstrap = wellKnown()
	}
	now := time.Now()
	s := &Store{
		cfg: cfg, log: cfg.Log, self: protocol.NodeID(cfg.Key.Public().(ed25519.PublicKey)),
		own: &ownRecord{key: cfg.Key}, cache: newCache(cfg.Dir != ""), opened: now,
		wake: make(chan struct{}, 1), errandWake: make(chan struct{}, 1),
		schedule: newSchedule(now), apps: make(map[protocol.AppID]*wanted),
		flights: make(map[netip.AddrPort]*flight), changed: make(map[protocol.AppID]bool),
	}
	var k kept
	if cfg.Dir != "" {
		var err error
		if s.disk, k, err = openDisk(cfg.Dir, s.self, s.cache, s.log); err != nil {
			return nil, err
		}
	}
	if err := s.openServers(k); err != nil {
		if s.disk != nil {
			s.disk.close()
		}
		return nil, err
	}
	s.own.seq, s.proven = k.seq, k.proven
	for _, app := range k.wanted {
		s.restore(app, now)
	}
	return s, nil
}

// openServers makes a server for each socket.
func (s *Store) openServers(k kept) error {
	for i, conn := range []net.PacketConn{s.cfg.Conn, s.cfg.Conn6} {
		if conn == nil {
			continue
		}
		srv, err := newServer(serverConfig{
			Conn: conn, NodeID: k.ids[i], Bootstrap: s.cfg.Bootstrap, Record: s.Own,
			Private: s.cfg.Private, Log: s.log, Budget: packetsPerSecond,
		})
		if err != nil {
			return err
		}
		srv.addNodes(k.table)
		s.servers = append(s.servers, srv)
		for _, v6 := range []bool{false, true} {
			if srv.hasFamily(v6) && (s.cfg.Conn6 == nil || v6 == (i == 1)) {
				d := side{srv: srv, v6: v6, self: ownAddr(conn, v6)}
				p := &publisher{side: d}
				p.task.run = func(ctx context.Context) int { return s.publish(ctx, p) }
				s.sides, s.publishers = append(s.sides, d), append(s.publishers, p)
			}
		}
	}
	if len(s.sides) == 0 {
		return errors.New("dhtstore: the sockets are of neither IPv4 nor IPv6")
	}
	return nil
}

// ownAddr is where this machine reaches its own socket.
func ownAddr(conn net.PacketConn, v6 bool) netip.AddrPort {
	local := conn.LocalAddr().(*net.UDPAddr).AddrPort() // newServer has seen that it is one
	a := local.Addr().Unmap()
	switch {
	case a.Is6() == v6 && !a.IsUnspecified():
	case v6:
		a = netip.IPv6Loopback()
	default:
		a = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.AddrPortFrom(a, local.Port())
}

// Serve takes part in the DHT until ctx ends, or a socket is lost. It returns
// when all its goroutines have ended and what is worth it is on the disk.
func (s *Store) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	errs := make(chan error, len(s.servers))
	for _, srv := range s.servers {
		wg.Go(func() {
			errs <- srv.serve(ctx)
			cancel()
		})
	}
	for range askers {
		wg.Go(func() { s.runErrands(ctx) })
	}
	wg.Go(func() { s.keep(ctx) })
	s.runTurns(ctx)
	wg.Wait()
	var err error
	for range s.servers {
		err = errors.Join(err, <-errs)
	}
	s.save(true)
	if s.disk != nil {
		err = errors.Join(err, s.disk.close())
	}
	return err
}

// runTurns is the one scheduler.
func (s *Store) runTurns(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	any4, any6 := s.readiness()
	select {
	case <-any4:
	case <-any6:
	case <-ctx.Done():
		return
	}
	select {
	case <-time.After(2 * settling): // or the first turns find an empty table
	case <-ctx.Done():
		return
	}
	s.mu.Lock()
	s.ready = time.Now()
	s.mu.Unlock()
	free := make(chan struct{}, turnsAtOnce)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case free <- struct{}{}:
		case <-ctx.Done():
			return
		}
		t := s.await(ctx, timer)
		if t == nil {
			return
		}
		wg.Go(func() {
			packets := t.run(ctx)
			s.mu.Lock()
			s.schedule.ran(t, packets)
			s.mu.Unlock()
			<-free
			s.signal()
		})
	}
}

// await waits for the next task, nil when ctx ends.
func (s *Store) await(ctx context.Context, timer *time.Timer) *task {
	for ctx.Err() == nil {
		s.mu.Lock()
		t, wait := s.schedule.next(time.Now())
		s.mu.Unlock()
		if t != nil {
			return t
		}
		if wait < 0 {
			wait = time.Hour
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-s.wake:
		case <-ctx.Done():
		}
	}
	return nil
}

// signal has the scheduler look again.
func (s *Store) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// charge tells the scheduler of packets that were sent without it.
func (s *Store) charge(packets int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.schedule.charge(packets)
}

// young says whether the tables were still growing then. Called with s.mu held.
func (s *Store) young(at time.Time) bool { return at.Before(s.ready.Add(settled)) }

// readiness are closed when a node of the IPv4 or IPv6 DHT has answered; nil
// without that DHT.
func (s *Store) readiness() (any4, any6 <-chan struct{}) {
	for _, d := range s.sides {
		if d.v6 {
			any6 = d.srv.ready(true)
		} else {
			any4 = d.srv.ready(false)
		}
	}
	return any4, any6
}

func (s *Store) readySides() (all []side) {
	for _, d := range s.sides {
		select {
		case <-d.srv.ready(d.v6):
			all = append(all, d)
		default:
		}
	}
	return all
}

func (s *Store) sideOf(v6 bool) (side, bool) {
	for _, d := range s.sides {
		if d.v6 == v6 {
			return d, true
		}
	}
	return side{}, false
}

// keep writes to the disk, now and then, until ctx ends.
func (s *Store) keep(ctx context.Context) {
	tick := time.NewTicker(saveEvery)
	defer tick.Stop()
	before := s.queries()
	for n := 0; ; n++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		now := s.queries()
		s.mu.Lock()
		s.rate = float64(now-before) / saveEvery.Seconds()
		s.mu.Unlock()
		before = now
		s.save(n%saveTableEach == 0)
	}
}

// save writes what has changed, and also the DHT's table.
func (s *Store) save(table bool) {
	s.mu.Lock()
	changed, proven, provenNew := s.changed, s.proven, s.provenNew
	s.changed, s.provenNew = make(map[protocol.AppID]bool), false
	s.mu.Unlock()
	if s.disk == nil {
		return
	}
	err := s.disk.saveCache(s.cache, changed)
	if provenNew {
		err = errors.Join(err, s.disk.saveProven(proven))
	}
	if table {
		var nodes []node
		var ids [][20]byte
		for _, srv := range s.servers {
			nodes, ids = append(nodes, srv.nodes()...), append(ids, srv.id())
		}
		if len(nodes) > 0 { // else what was there may still be of use
			err = errors.Join(err, s.disk.saveTable(ids, nodes))
		}
		err = errors.Join(err, s.saveSeq())
	}
	switch { // said once, not every 5 s
	case err != nil && !s.disk.failing:
		s.log.Error("DHT data cannot be written", "err", err)
	case err == nil && s.disk.failing:
		s.log.Info("DHT data can be written again")
	}
	s.disk.failing = err != nil
}

func (s *Store) queries() (n uint64) {
	for _, srv := range s.servers {
		n += srv.stats().Queries
	}
	return n
}

// Proven are the link addresses that SetProven was given last, by this process
// or the one before.
func (s *Store) Proven() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.proven...)
}

// SetProven keeps link addresses where a handshake has succeeded, at most
// protocol.DialBook, across restarts.
func (s *Store) SetProven(proven []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.proven = append([]string(nil), proven[:min(len(proven), protocol.DialBook)]...)
	s.provenNew = true
}

// Stats are totals, and say nothing of any app or node.
type Stats struct {
	Nodes4, Nodes6 int  // of the DHT that answer, in our tables
	Known          int  // nodes like this one, found at any time
	Apps           int  // with peers here
	Announced      int  // of them, that other nodes can find now
	Waiting        int  // of them, that they cannot: not announced yet, or too long ago
	Published      bool // the own record is in the DHT

	PacketsPerSecond float64 // asked of the DHT, over the last 5 s
	Queries          uint64  // the same since the start
	Timeouts         uint64  // of them not answered
	Answered         uint64  // queries of others
	Dropped          uint64  // queries of others over a limit, and packets that were none
	Infohashes       int     // of others, in our store
	Items            int     // of others, in our store
}

// Stats says how things are.
func (s *Store) Stats() Stats {
	st := Stats{Known: s.cache.len()}
	for _, srv := range s.servers {
		a := srv.stats()
		st.Nodes4, st.Nodes6 = st.Nodes4+a.Nodes4, st.Nodes6+a.Nodes6
		st.Queries, st.Timeouts, st.Answered = st.Queries+a.Queries, st.Timeouts+a.Timeouts, st.Answered+a.Answered
		st.Dropped += a.Limited + a.Malformed
		st.Infohashes, st.Items = st.Infohashes+a.Infohashes, st.Items+a.Items
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st.PacketsPerSecond = s.rate
	now := time.Now()
	for _, a := range s.apps {
		if a.found != nil {
			st.Apps++
			if s.held(a, now) {
				st.Announced++
			}
		}
	}
	st.Waiting = st.Apps - st.Announced
	for _, p := range s.publishers {
		st.Published = st.Published || p.version > 0
	}
	return st
}
