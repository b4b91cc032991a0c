package lan

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

const (
	scanEvery = 5 * time.Second // for interfaces that have come or gone
	// Many that hear a new one do not answer all at once: each waits up to this
	// much for each that it knows.
	answerSpread = 2 * time.Millisecond
	ownNonces    = 4 * maxInterfaces // of beacons that may come back
)

// Said is what a beacon says: of a node its record, of a peer its apps and its
// TCP port. A zero one is not sent.
type Said struct {
	Record *protocol.SignedRecord
	Apps   []protocol.AppID
	Port   uint16
}

// Config is what Beacons need. Key has to be given.
type Config struct {
	Key     ed25519.PrivateKey   // of the node or peer
	Say     func(Interface) Said // asked before each beacon; nil: only others are heard
	Heard   func(Heard)          // a beacon was heard; it must not block, and is called once at a time
	Gone    func(Heard)          // nothing was heard of it for long
	Network Network              // nil: this machine's
	Log     *slog.Logger         // nil: none
}

// Beacons announces a node or a peer on the LAN and hears others.
type Beacons struct {
	// Static.
	cfg   Config
	self  [32]byte
	conns []Conn
	wake  chan struct{} // somebody new was heard

	telling sync.Mutex // held while Heard or Gone is called

	mu         sync.Mutex
	interfaces []Interface
	table      *table
	sent       [ownNonces][protocol.BeaconNonce]byte // the newest: one key may be on several devices
	sends      int
}

// Listen opens the beacons' sockets. Serve serves and closes them; Close gives
// up what is not served.
func Listen(cfg Config) (*Beacons, error) {
	if cfg.Network == nil {
		cfg.Network = Machine{}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	conns, err := cfg.Network.Listen()
	if err != nil {
		return nil, err
	}
	return &Beacons{
		cfg: cfg, self: [32]byte(cfg.Key.Public().(ed25519.PublicKey)), conns: conns, table: newTable(), wake: make(chan struct{}, 1),
	}, nil
}

// Close closes the sockets.
func (b *Beacons) Close() error {
	var err error
	for _, c := range b.conns {
		if e := c.Close(); !errors.Is(e, net.ErrClosed) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// Serve sends and hears beacons until ctx ends.
func (b *Beacons) Serve(ctx context.Context) error {
	var hearing sync.WaitGroup
	for _, c := range b.conns {
		hearing.Go(func() { b.hear(c) })
	}
	b.announce(ctx)
	err := b.Close()
	hearing.Wait()
	return err
}

// Near says whether an address is on a subnet of one of the interfaces that
// beacons are sent on.
func (b *Beacons) Near(a netip.Addr) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.ContainsFunc(b.interfaces, func(i Interface) bool { return i.near(a) })
}

// Known are those who were heard and have not expired.
func (b *Beacons) Known() []Heard {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := make([]Heard, 0, len(b.table.all))
	for _, e := range b.table.all {
		list = append(list, e.heard)
	}
	return list
}

// announce sends a beacon at once, every so often, when there is a new
// interface, and when somebody new was heard.
func (b *Beacons) announce(ctx context.Context) {
	joined := make(map[int]bool)
	var last, next time.Time
	for {
		now := time.Now()
		b.forget(now)
		if b.scan(joined) || !now.Before(next) {
			b.sendAll()
			last, next = now, now.Add(protocol.BeaconEvery)
		}
		wait := min(next.Sub(now), scanEvery)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		case <-b.wake:
			next = last.Add(protocol.BeaconReply + b.spread())
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Until(next)):
			}
		}
	}
}

// spread is a random wait before an answer, longer where there are many.
func (b *Beacons) spread() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return mathrand.N(answerSpread * time.Duration(len(b.table.all)+1))
}

// scan looks at the interfaces, joins the group on new ones and reports whether
// there are any.
func (b *Beacons) scan(joined map[int]bool) (fresh bool) {
	list, err := b.cfg.Network.Interfaces()
	if err != nil {
		b.cfg.Log.Debug("interfaces cannot be listed", "error", err)
		return false
	}
	b.mu.Lock()
	before := b.interfaces
	b.interfaces = list
	b.mu.Unlock()
	here := make(map[int]bool, len(list))
	for _, i := range list {
		here[i.Index] = true
		same := func(o Interface) bool { return o.Index == i.Index && slices.Equal(o.Subnets, i.Subnets) }
		if joined[i.Index] && slices.ContainsFunc(before, same) {
			continue
		}
		// It has come, or has another address, maybe the first of a family.
		fresh, joined[i.Index] = true, true
		for _, c := range b.conns {
			if err := c.Join(i); err != nil {
				b.cfg.Log.Debug("no group on an interface", "interface", i.Name, "error", err)
			}
		}
	}
	for index := range joined {
		if !here[index] {
			delete(joined, index)
		}
	}
	return fresh
}

// sendAll sends one beacon on each interface.
func (b *Beacons) sendAll() {
	if b.cfg.Say == nil {
		return
	}
	b.mu.Lock()
	list := b.interfaces
	b.mu.Unlock()
	for _, i := range list {
		said := b.cfg.Say(i)
		if said.Record == nil && said.Port == 0 {
			continue
		}
		var nonce [protocol.BeaconNonce]byte
		rand.Read(nonce[:])
		b.mu.Lock()
		b.sent[b.sends%ownNonces] = nonce
		b.sends++
		b.mu.Unlock()
		datagram, err := protocol.SignBeacon(b.cfg.Key, nonce, said.Apps, said.Port, said.Record)
		if err != nil {
			b.cfg.Log.Debug("no beacon can be made", "error", err)
			continue
		}
		for _, c := range b.conns {
			if err := c.Send(i, datagram); err != nil {
				b.cfg.Log.Debug("a beacon is not sent", "interface", i.Name) // the error has addresses
			}
		}
	}
}

// hear takes datagrams until the socket is closed. An error before that, such
// as of an interface that is gone, is no reason to end.
func (b *Beacons) hear(c Conn) {
	buf := make([]byte, protocol.MaxBeacon+1)
	for {
		n, from, index, err := c.Receive(buf)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			time.Sleep(10 * time.Millisecond)
		default:
			b.take(buf[:n], from, index)
		}
	}
}

// take looks at a datagram, at what costs least first.
func (b *Beacons) take(datagram []byte, from netip.Addr, index int) {
	now := time.Now()
	b.mu.Lock()
	on, ok := b.interfaceOf(from, index)
	ok = ok && len(datagram) <= protocol.MaxBeacon && b.table.allows(from, now)
	b.mu.Unlock()
	if !ok {
		return
	}
	a, err := protocol.ReadBeacon(datagram, now)
	if err != nil {
		b.cfg.Log.Debug("a beacon is not believed", "error", err)
		return
	}
	if b.isOwn(a) {
		return
	}
	h := Heard{Announcement: *a, From: from, Interface: on}
	b.telling.Lock()
	defer b.telling.Unlock()
	b.mu.Lock()
	ok = b.table.put(&h, now)
	b.mu.Unlock()
	if !ok {
		return
	}
	if b.cfg.Heard != nil {
		b.cfg.Heard(h)
	}
	if h.New {
		select {
		case b.wake <- struct{}{}:
		default:
		}
	}
}

// isOwn says whether a beacon is one that was sent here.
func (b *Beacons) isOwn(a *protocol.Announcement) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return a.Key == b.self && slices.Contains(b.sent[:min(b.sends, ownNonces)], a.Nonce)
}

// interfaceOf is the index of the interface whose subnet a datagram comes from.
// It has to be the one that it came in by. Called with mu held.
func (b *Beacons) interfaceOf(from netip.Addr, index int) (int, bool) {
	for _, i := range b.interfaces {
		if (index == 0 || index == i.Index) && i.near(from) {
			return i.Index, true
		}
	}
	return 0, false
}

// forget tells of those that have expired.
func (b *Beacons) forget(now time.Time) {
	b.telling.Lock()
	defer b.telling.Unlock()
	b.mu.Lock()
	gone := b.table.expire(now)
	b.mu.Unlock()
	if b.cfg.Gone != nil {
		for _, h := range gone {
			b.cfg.Gone(h)
		}
	}
}
