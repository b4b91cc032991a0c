// Package portmap has the router of a home let in what is for ports of this
// machine, by PCP, NAT-PMP or UPnP, whichever it speaks.
//
//	m := portmap.New(portmap.Config{Ports: []portmap.Port{{TCP: true, Number: 8787}}})
//	err := m.Serve(ctx) // maps, renews, and in the end takes it back
//	m.State()
//
// The default route's router is asked, and nobody else: what another machine of
// the network answers, or names, is not followed.
package portmap

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-netroute"
)

const (
	lifetime  = 40 * time.Minute // that is asked for, so that a router which forgot is noticed within half of it
	shortest  = 2 * time.Minute  // that is taken: a router may not have itself asked all the time
	retry     = 30 * time.Second // after a failure, then twice as long each time
	retryMost = 10 * time.Minute
	look      = 15 * time.Second // between two looks whether the router is another one
	callTime  = 3 * time.Second  // that a router may take for one thing
	endTime   = 3 * time.Second  // in which mappings are taken back

	// MaxPorts is how many ports one Mapper maps.
	MaxPorts = 24
)

// Port is one that is to be reached.
type Port struct {
	TCP    bool // or else UDP
	Number uint16
	Exact  bool // of use only if the router's port has the same number
}

// Mapping is a Port that the router lets in.
type Mapping struct {
	Port
	External uint16 // the router's
}

// State is what the router does now.
type State struct {
	Protocol string     // "pcp", "nat-pmp" or "upnp"; "": no router does it
	Address  netip.Addr // of the router outside, as it says; not valid if it does not
	Mappings []Mapping
}

// Config says what to map. Only Ports is needed.
type Config struct {
	Ports []Port // at most MaxPorts
	Log   *slog.Logger
	// Gateway says who the router is; nil takes the default route's.
	Gateway func() (Gateway, error)
	// Changed is called after each change of State; nil: nobody is told.
	Changed func()
	// Only leaves out all protocols but one, for tests.
	Only string
}

// Gateway is a router, and this machine's own address on its network.
type Gateway struct{ Router, Local netip.Addr }

// Mapper keeps mappings.
type Mapper struct {
	// Static.
	cfg       Config
	protocols []protocol

	// Owned by Serve.
	gateway Gateway
	client  client // nil: none is found
	failed  bool   // it has been said

	mu    sync.Mutex
	state State
}

// client speaks one protocol with one router.
type client interface {
	name() string
	address(ctx context.Context) (netip.Addr, error)
	// add makes a mapping, or renews it; external is what is wished for.
	add(ctx context.Context, p Port, external uint16) (granted uint16, life time.Duration, err error)
	remove(ctx context.Context, m Mapping) error
}

// protocol is one that a router may speak.
type protocol struct {
	name string
	find func(context.Context, Gateway) (client, error)
}

// ErrNoRouter is that no router maps ports.
var ErrNoRouter = errors.New("no router of this network maps ports by PCP, NAT-PMP or UPnP; is it switched on there?")

// New checks nothing and asks nobody.
func New(cfg Config) *Mapper {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Gateway == nil {
		cfg.Gateway = defaultGateway
	}
	cfg.Ports = cfg.Ports[:min(len(cfg.Ports), MaxPorts)]
	return &Mapper{cfg: cfg, protocols: []protocol{{namePCP, findPCP}, {nameNATPMP, findNATPMP}, {nameUPnP, findUPnP}}} // the newest first
}

// State is what the router does now.
func (m *Mapper) State() State {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.state
	s.Mappings = slices.Clone(s.Mappings)
	return s
}

func (m *Mapper) set(s State) {
	m.mu.Lock()
	same := m.state.Protocol == s.Protocol && m.state.Address == s.Address && slices.Equal(m.state.Mappings, s.Mappings)
	m.state = s
	m.mu.Unlock()
	if !same && m.cfg.Changed != nil {
		m.cfg.Changed()
	}
}

// Serve maps until ctx ends, and then takes the mappings back, within a few
// seconds.
func (m *Mapper) Serve(ctx context.Context) error {
	wait := retry
	for ctx.Err() == nil {
		life, err := m.refresh(ctx)
		if err == nil {
			wait = retry
			m.rest(ctx, max(life, shortest)/2)
			continue
		}
		if ctx.Err() == nil && !m.failed {
			m.failed = true
			m.cfg.Log.Warn("the node's ports are not mapped", "err", err)
		}
		m.client = nil
		m.set(State{})
		m.rest(ctx, wait)
		wait = min(2*wait, retryMost)
	}
	m.end(context.WithoutCancel(ctx))
	return nil
}

// rest waits, or until the router is another one.
func (m *Mapper) rest(ctx context.Context, d time.Duration) {
	done := time.NewTimer(d)
	defer done.Stop()
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-done.C:
			return
		case <-tick.C:
			if g, err := m.cfg.Gateway(); err == nil && g != m.gateway {
				return
			}
		}
	}
}

// refresh makes or renews all mappings, and says how long the shortest is good.
func (m *Mapper) refresh(ctx context.Context) (life time.Duration, err error) {
	g, err := m.cfg.Gateway()
	if err != nil {
		return 0, err
	}
	if g != m.gateway {
		m.gateway, m.client = g, nil
	}
	if m.client == nil {
		if m.client, err = m.find(ctx); err != nil {
			return 0, err
		}
	}
	before := m.State()
	s := State{Protocol: m.client.name()}
	life = lifetime
	for _, p := range m.cfg.Ports {
		granted, l, e := m.add(ctx, p, wish(p, before.Mappings, s.Mappings))
		if e != nil {
			err = e
			continue
		}
		life = min(life, l)
		s.Mappings = append(s.Mappings, Mapping{p, granted})
	}
	if len(s.Mappings) == 0 {
		return 0, err
	}
	if a, e := m.address(ctx); e == nil {
		s.Address = a
	}
	if before.Protocol != s.Protocol {
		m.failed = false
		m.cfg.Log.Info("the router lets in the node's ports", "protocol", s.Protocol, "ports", len(s.Mappings), "of", len(m.cfg.Ports))
	}
	m.set(s)
	return life, nil
}

// wish is the router's port that would be best: the one that it was, or that of
// the same number over the other of TCP and UDP, or the same number.
func wish(p Port, before, now []Mapping) uint16 {
	for _, b := range before {
		if b.Port == p {
			return b.External
		}
	}
	for _, b := range now {
		if b.Number == p.Number {
			return b.External
		}
	}
	return p.Number
}

func (m *Mapper) add(ctx context.Context, p Port, external uint16) (uint16, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	granted, life, err := m.client.add(ctx, p, external)
	if err == nil && p.Exact && granted != p.Number {
		err = errors.Join(errors.New("the router's port has another number"), m.client.remove(ctx, Mapping{p, granted}))
	}
	return granted, life, err
}

func (m *Mapper) address(ctx context.Context) (netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	return m.client.address(ctx)
}

// find is the first protocol that the router speaks.
func (m *Mapper) find(ctx context.Context) (client, error) {
	for _, try := range m.protocols {
		if m.cfg.Only != "" && m.cfg.Only != try.name {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, callTime)
		c, err := try.find(ctx, m.gateway)
		cancel()
		if err == nil {
			return c, nil
		}
		m.cfg.Log.Debug("no port mapping by this protocol", "protocol", try.name, "err", err)
	}
	return nil, ErrNoRouter
}

// end takes the mappings back.
func (m *Mapper) end(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, endTime)
	defer cancel()
	var removing sync.WaitGroup
	for _, mapping := range m.State().Mappings {
		removing.Go(func() {
			if err := m.client.remove(ctx, mapping); err != nil {
				m.cfg.Log.Debug("a mapping is not taken back, and ends by itself", "err", err)
			}
		})
	}
	removing.Wait()
	m.set(State{})
}

// defaultGateway asks the system how a packet would leave for the internet.
func defaultGateway() (Gateway, error) {
	r, err := netroute.New()
	if err != nil {
		return Gateway{}, err
	}
	_, router, local, err := r.Route(net.IPv4(192, 0, 2, 1)) // nothing is sent there
	if err != nil {
		return Gateway{}, errors.New("there is no route to the internet")
	}
	g, ok := netip.AddrFromSlice(router.To4())
	l, okLocal := netip.AddrFromSlice(local.To4())
	if !ok || !okLocal {
		return Gateway{}, errors.New("there is no router between this machine and the internet")
	}
	return Gateway{g, l}, nil
}
