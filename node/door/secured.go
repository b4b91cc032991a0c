package door

import (
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// How many connections of a secured listener may be before the end of their
// handshake, in all and of one address. Who waits for one of the handshakes costs
// little.
const (
	maxSecuring        = 8 * maxHandshakes
	maxSecuringAddress = 64
)

// Secure is a listener whose connections have a TLS handshake behind them. How
// many of those are under way, and for how long, is bounded. Close waits for all.
func Secure(l net.Listener, cfg *tls.Config) net.Listener {
	s := &secured{
		Listener: l, cfg: cfg, shakes: newHandshakes(), ready: make(chan net.Conn), done: make(chan struct{}),
		open: make(map[net.Conn]netip.Addr), counts: make(map[netip.Addr]int),
	}
	s.all.Go(s.accept)
	return s
}

type secured struct {
	net.Listener
	cfg    *tls.Config
	shakes *handshakes
	ready  chan net.Conn
	done   chan struct{}
	stop   sync.Once
	err    error // valid when done is closed
	all    sync.WaitGroup

	// Guarded by mu: those before the end of their handshake.
	mu     sync.Mutex
	open   map[net.Conn]netip.Addr // nil: closed
	counts map[netip.Addr]int
}

func (s *secured) accept() {
	for {
		c, err := s.Listener.Accept()
		switch {
		case err == nil && s.add(c):
			s.all.Go(func() { s.serve(c) })
		case err == nil:
			c.Close()
		case tooManyFiles(err):
			time.Sleep(5 * time.Millisecond)
		default:
			s.end(err)
			return
		}
	}
}

func (s *secured) add(c net.Conn) bool {
	from, _ := netip.ParseAddrPort(c.RemoteAddr().String())
	key := addressKey(from.Addr())
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil || len(s.open) >= maxSecuring || s.counts[key] >= maxSecuringAddress {
		return false
	}
	s.open[c] = key
	s.counts[key]++
	return true
}

func (s *secured) remove(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key, ok := s.open[c]
	if !ok {
		return
	}
	delete(s.open, c)
	if s.counts[key]--; s.counts[key] == 0 {
		delete(s.counts, key)
	}
}

func (s *secured) serve(c net.Conn) {
	tc, err := s.shakes.do(c, s.cfg)
	s.remove(c)
	if err != nil || tc.ConnectionState().NegotiatedProtocol == acmeTLS {
		c.Close()
		return
	}
	select {
	case s.ready <- tc:
	case <-s.done:
		c.Close()
	}
}

func (s *secured) end(err error) {
	s.stop.Do(func() {
		s.err = err
		close(s.done)
	})
}

// Accept implements net.Listener.
func (s *secured) Accept() (net.Conn, error) {
	select {
	case c := <-s.ready:
		return c, nil
	case <-s.done:
		return nil, s.err
	}
}

// Close implements net.Listener. It may be called more than once.
func (s *secured) Close() error {
	err := s.Listener.Close()
	s.end(net.ErrClosed)
	s.mu.Lock()
	for c := range s.open {
		c.Close()
	}
	s.open = nil
	s.mu.Unlock()
	s.all.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
