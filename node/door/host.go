package door

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// Sizes and durations of a client's connection that no protocol names.
const (
	maxMessage  = protocol.MaxMessage
	hardLimit   = 1 << 20 // a message over maxMessage is skipped, one over this ends the connection
	closeLinger = 5 * time.Second
	drainChunk  = 16 << 10
	sweepEvery  = 5 * time.Second
	leaveEvery  = 2 * time.Second  // see Conn.CloseLater
	pingAfter   = 45 * time.Second // of quiet: proxies close at 60 s
	silentLimit = 120 * time.Second
)

// Config is what a Host is made from. The zero value works.
type Config struct {
	Log *slog.Logger
	// AllowPrivate lifts the quotas of clients on loopback.
	AllowPrivate bool
	// Quota bounds clients.
	Quota Quota
	// TrustedProxies are addresses whose X-Forwarded-For says who the client
	// is.
	TrustedProxies []netip.Prefix
	// Origins are the values of the Origin header that may connect; none: all.
	Origins []string
	// Tokens are what a client has to give one of; none: nothing.
	Tokens []string
	// OfferQueue and Queue are how many bytes wait for a client that does not
	// read: above the first it loses offers, above the second it is closed.
	// Zero means 128 KiB and 512 KiB.
	OfferQueue, Queue int
	// WriteTimeout is how long a client may take nothing of what waits for it.
	// Zero means 30 s.
	WriteTimeout time.Duration
}

// Host runs the connections of a node's clients for its doors.
type Host struct {
	// Static after NewHost.
	cfg      Config
	log      *slog.Logger
	flushers []*flusher
	tokens   [][sha256.Size]byte // hashes

	addresses addresses
	workers   workers
	totals    totals
	next      atomic.Uint32 // flusher of the next connection
	shakes    *handshakes
	readers   sync.WaitGroup
	drains    sync.WaitGroup

	mu       sync.Mutex
	first    *Conn
	conns    int
	draining bool                   // new clients are refused
	stopping bool                   // none is kept
	silent   map[*hotConn]time.Time // new connections that have not said anything, and until when they may
	scratch  []*Conn
	leaving  []leaving
}

type totals struct {
	lostOffers, slowClosed, refusedConns, refusedMessages, denied, failedTLS, opened atomic.Uint64
}

// Stats are totals over all doors.
type Stats struct {
	Clients         int    `json:"clients"`
	Opened          uint64 `json:"opened"`           // connections since the start
	LostOffers      uint64 `json:"lost_offers"`      // that slow clients had no room for
	SlowClosed      uint64 `json:"slow_closed"`      // clients too slow even for that
	RefusedConns    uint64 `json:"refused_conns"`    // over an address's quota
	RefusedMessages uint64 `json:"refused_messages"` // too large or too many
	Denied          uint64 `json:"denied"`           // without a token or from an origin that is not listed
	FailedTLS       uint64 `json:"failed_tls"`       // handshakes that failed or took too long
}

// NewHost makes a Host. Serve must run before clients come.
func NewHost(cfg Config) *Host {
	cfg.Quota = cfg.Quota.withDefaults()
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.OfferQueue == 0 {
		cfg.OfferQueue = 128 << 10
	}
	if cfg.Queue == 0 {
		cfg.Queue = 512 << 10
	}
	if cfg.WriteTimeout == 0 {
		cfg.WriteTimeout = 30 * time.Second
	}
	h := &Host{cfg: cfg, log: cfg.Log, shakes: newHandshakes()}
	for _, token := range cfg.Tokens {
		h.tokens = append(h.tokens, sha256.Sum256([]byte(token)))
	}
	h.silent = make(map[*hotConn]time.Time)
	h.addresses = addresses{quota: cfg.Quota, m: make(map[netip.Addr]*address)}
	for range min(2, max(1, runtime.GOMAXPROCS(0)/2)) {
		h.flushers = append(h.flushers, newFlusher(h))
	}
	return h
}

// Stats are the totals so far.
func (h *Host) Stats() Stats {
	h.mu.Lock()
	n := h.conns
	h.mu.Unlock()
	t := &h.totals
	return Stats{
		Clients: n, Opened: t.opened.Load(), LostOffers: t.lostOffers.Load(), SlowClosed: t.slowClosed.Load(),
		RefusedConns: t.refusedConns.Load(), RefusedMessages: t.refusedMessages.Load(),
		Denied: t.denied.Load(), FailedTLS: t.failedTLS.Load(),
	}
}

// Serve writes to clients and watches over them until ctx ends; then it closes
// those that are left and waits for all goroutines.
func (h *Host) Serve(ctx context.Context) error {
	var flushing sync.WaitGroup
	for _, f := range h.flushers {
		flushing.Go(f.run)
	}
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	leave := time.NewTicker(leaveEvery)
	defer leave.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-leave.C:
			h.closeLeaving()
		case now := <-tick.C:
			h.hangUp(ctx, now)
			h.sweep(now)
		}
	}
	h.mu.Lock()
	h.draining, h.stopping = true, true
	h.mu.Unlock()
	h.hangUp(ctx, time.Now())
	for _, c := range h.all() {
		c.kill()
	}
	h.readers.Wait()
	h.workers.end()
	for _, f := range h.flushers {
		f.end()
	}
	flushing.Wait()
	h.drains.Wait()
	return nil
}

// Drain refuses new clients and closes those there are, spread over up to
// protocol.ClientDrain so that they do not all come back at once. It returns
// when all have gone or ctx ends.
func (h *Host) Drain(ctx context.Context) {
	h.mu.Lock()
	h.draining = true
	h.mu.Unlock()
	all := slices.Clone(h.all())
	pause := min(protocol.ClientDrain/time.Duration(len(all)+1), 5*time.Millisecond)
	for _, c := range all {
		c.Close(protocol.CloseServiceRestart, "node restarts")
		if !sleep(ctx, pause) {
			return
		}
	}
	for h.Stats().Clients > 0 && sleep(ctx, 10*time.Millisecond) {
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// all lists the connections there are.
func (h *Host) all() []*Conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]*Conn, 0, h.conns)
	for c := h.first; c != nil; c = c.next {
		all = append(all, c)
	}
	return all
}

// sweep pings quiet clients, closes silent ones and lets sessions expire their
// members. It is called by Serve alone.
func (h *Host) sweep(now time.Time) {
	h.mu.Lock()
	list := h.scratch[:0]
	for c := h.first; c != nil; c = c.next {
		list = append(list, c)
	}
	h.scratch = list
	h.mu.Unlock()
	for i, c := range list {
		list[i] = nil
		c.sweep(now)
	}
}

// closeLeaving closes those for whom CloseLater was called.
func (h *Host) closeLeaving() {
	h.mu.Lock()
	over := h.leaving
	h.leaving = nil
	h.mu.Unlock()
	for _, l := range over {
		l.c.Close(l.code, l.reason)
	}
}

// enter counts a goroutine that Serve waits for, unless the node stops.
func (h *Host) enter() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.draining {
		return false
	}
	h.readers.Add(1)
	return true
}

// list makes a connection known, and reports false when the node stops.
func (h *Host) list(c *Conn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.draining {
		return false
	}
	c.listed = true
	c.next = h.first
	if h.first != nil {
		h.first.prev = c
	}
	h.first = c
	h.conns++
	h.totals.opened.Add(1)
	return true
}

func (h *Host) remove(c *Conn) (stopping bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if c.listed {
		c.listed = false
		if c.prev != nil {
			c.prev.next = c.next
		} else {
			h.first = c.next
		}
		if c.next != nil {
			c.next.prev = c.prev
		}
		c.prev, c.next = nil, nil
		h.conns--
	}
	return h.stopping
}

// Draining says whether the node is about to stop.
func (h *Host) Draining() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.draining
}
