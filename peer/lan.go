package peer

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/peerservers/peerserver/peer/lan"
	"github.com/peerservers/peerserver/protocol"
)

const (
	lanOfSource = 16               // connections that one address may have here
	lanDial     = 5 * time.Second  // for TCP
	lanRetryMin = time.Second      // between connections to one peer
	lanRetryMax = 30 * time.Second // as often as its beacons come
	lanSteady   = 10 * time.Second // after which one that ends is no failure
)

// local is the room on the LAN: it finds nodes there, and members, to which it
// opens streams that carry signals. A stream shows its member and is one more
// way to it; what comes of the signals is the same connection as by any other.
type local struct {
	// Static.
	r        *Room
	beacons  *lan.Beacons
	listener net.Listener
	port     uint16
	keep     net.KeepAliveConfig

	mu      sync.Mutex
	dials   map[lanPlace]struct{} // each has a goroutine
	sources map[netip.Addr]int    // connections that were accepted
	conns   int                   // at most protocol.MaxLANConns, those not greeted yet and those dialled included
	streams map[protocol.Member]*lanStream
}

// lanPlace is a program on the LAN, whichever of its addresses is heard.
type lanPlace struct {
	id   protocol.PeerID
	port uint16
}

// openLAN opens the sockets. serve closes them.
func (r *Room) openLAN() error {
	l := &local{
		r: r, dials: make(map[lanPlace]struct{}), sources: make(map[netip.Addr]int), streams: make(map[protocol.Member]*lanStream),
		// Nothing is said for hours: the system finds out when the other side is gone.
		keep: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3},
	}
	var err error
	if l.listener, err = new(net.ListenConfig).Listen(r.wire, "tcp", ":0"); err != nil {
		return err
	}
	l.port = uint16(l.listener.Addr().(*net.TCPAddr).Port) //nolint:gosec // a port
	l.beacons, err = lan.Listen(lan.Config{
		Key: r.key, Heard: l.heard, Network: r.opts.network, Log: r.log,
		Say: func(lan.Interface) lan.Said { return lan.Said{Apps: []protocol.AppID{r.app}, Port: l.port} },
	})
	if err != nil {
		l.listener.Close()
		return err
	}
	r.local = l
	return nil
}

// serve takes part in the LAN until the room is left.
func (l *local) serve() {
	var parts sync.WaitGroup
	stop := closeWith(l.r.wire, l.listener)
	parts.Go(func() {
		if err := l.beacons.Serve(l.r.wire); err != nil {
			l.r.log.Debug("the beacons end", "error", err)
		}
	})
	l.accept(&parts)
	stop()
	parts.Wait()
}

// accept takes connections from those who are near.
func (l *local) accept(parts *sync.WaitGroup) {
	for {
		c, err := l.listener.Accept()
		if err != nil {
			if l.r.wire.Err() != nil {
				return
			}
			time.Sleep(10 * time.Millisecond) // too many files are open
			continue
		}
		from := remoteOf(c)
		if !l.beacons.Near(from) || !l.admit(from) {
			c.Close()
			continue
		}
		parts.Go(func() {
			defer l.leave(from)
			l.greet(c, nil)
		})
	}
}

func remoteOf(c net.Conn) netip.Addr {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// admit makes room for a connection. The zero address is that of all who are
// dialled.
func (l *local) admit(from netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns >= protocol.MaxLANConns || (from.IsValid() && l.sources[from] >= lanOfSource) {
		return false
	}
	l.conns++
	l.sources[from]++
	return true
}

func (l *local) leave(from netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns--
	if l.sources[from]--; l.sources[from] == 0 {
		delete(l.sources, from)
	}
}

// heard takes a beacon of somebody else.
func (l *local) heard(h lan.Heard) {
	if h.Record != nil {
		l.r.homes.near(h.Record, h.From)
		return
	}
	at := lanPlace{h.Key, h.Port}
	order := bytes.Compare(l.r.self.Peer[:], at.id[:])
	if order > 0 || (order == 0 && l.port >= h.Port) || !h.Serves(l.r.app) {
		return // it dials, or it is of no app that matters here
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, dials := l.dials[at]; dials || len(l.dials) >= protocol.MaxLANConns || l.r.wire.Err() != nil {
		return
	}
	l.dials[at] = struct{}{}
	l.r.all.Go(func() { l.dial(at) }) // serve, which calls this, is among all
}

// dial keeps a connection to a program for as long as it is heard.
func (l *local) dial(at lanPlace) {
	wait := lanRetryMin
	for turn := 0; ; turn++ {
		to, ok := l.addressOf(at, turn)
		if !ok {
			return
		}
		began := time.Now()
		if l.admit(netip.Addr{}) {
			l.reach(at, to)
			l.leave(netip.Addr{})
		}
		if time.Since(began) > lanSteady {
			wait = lanRetryMin
		}
		select {
		case <-time.After(wait):
			wait = min(2*wait, lanRetryMax)
		case <-l.r.wire.Done():
			return
		}
	}
}

// addressOf is one of the addresses that a program was heard at, another one at
// each turn. When there is none, nobody dials it any more.
func (l *local) addressOf(at lanPlace, turn int) (netip.AddrPort, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []netip.AddrPort
	for _, h := range l.beacons.Known() {
		if h.Key == at.id && h.Port == at.port && h.Record == nil {
			list = append(list, netip.AddrPortFrom(h.From, h.Port))
		}
	}
	if len(list) == 0 {
		delete(l.dials, at)
		return netip.AddrPort{}, false
	}
	return list[turn%len(list)], true
}

func (l *local) reach(at lanPlace, to netip.AddrPort) {
	ctx, cancel := context.WithTimeout(l.r.wire, lanDial)
	c, err := new(net.Dialer).DialContext(ctx, "tcp", to.String())
	cancel()
	if err != nil {
		l.r.log.Debug("a peer on the LAN is not reached", "peer", at.id.Short()) // the error has its address
		return
	}
	l.greet(c, &at.id)
}

// greet opens a stream and serves it until it ends.
func (l *local) greet(c net.Conn, who *protocol.PeerID) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetKeepAliveConfig(l.keep) // as well as the system can
	}
	s, err := lan.Open(l.r.wire, c, l.r.app, l.r.self.Peer, who)
	if err != nil {
		l.r.log.Debug("no stream on the LAN", "code", lanCode(err))
		return
	}
	l.stream(s)
}
