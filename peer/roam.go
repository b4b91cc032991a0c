package peer

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/pion/webrtc/v4"

	"github.com/peerservers/peerserver/protocol"
)

const (
	lookEvery  = 500 * time.Millisecond // at the addresses of this machine
	showWithin = time.Second            // for a node to show that it is there, once there is a doubt
)

// addressSet are the addresses of a machine, in order.
type addressSet []netip.Addr

// here are the addresses that there are now, nil when they are not known. Those
// of one link only come and go with every interface, and carry nothing.
func (r *Room) here() (list addressSet) {
	if f := r.opts.addrs; f != nil {
		return f()
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLinkLocalUnicast() {
			list = append(list, p.Addr().Unmap())
		}
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return list
}

// has says whether an address is there. One that is no address is.
func (s addressSet) has(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return !a.IsValid() || a.IsLinkLocalUnicast() || slices.Contains(s, a)
}

// watchAddresses notices when this machine goes to another network.
func (r *Room) watchAddresses() {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for known := r.here(); ; {
		select {
		case <-look.C:
		case <-r.work.Done():
			return
		}
		now := r.here()
		if now == nil || slices.Equal(now, known) {
			continue
		}
		gone := slices.ContainsFunc(known, func(a netip.Addr) bool { return !slices.Contains(now, a) })
		known = now
		r.moves(now, gone)
	}
}

// moves takes in that the addresses are others; gone: one that there was is not
// there any more. A node that is reached from it has to be dialled again before
// anybody can be told.
func (r *Room) moves(now addressSet, gone bool) {
	r.servers.moved()
	r.mu.Lock()
	s := r.socket
	lost := s != nil && !now.has(sourceOf(s.ws.NetConn()))
	if s == nil || lost {
		r.roamed = r.roamed || gone
	}
	if r.redial != nil {
		r.redial()
	}
	r.mu.Unlock()
	if lost {
		s.ws.Close()
		return
	}
	select {
	case r.homes.fresh <- struct{}{}: // whoever waits before dialling again dials now
	default:
	}
	r.mend(now, gone)
}

func sourceOf(c net.Conn) netip.Addr {
	if tcp, ok := c.LocalAddr().(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr()
	}
	return netip.Addr{}
}

// mend has other ways looked for to all who may be cut off.
func (r *Room) mend(here addressSet, gone bool) {
	for _, p := range r.Peers() {
		if p.isCutOff(here, gone) {
			p.m.wake(note{kind: noteMoved})
		}
	}
}

// isCutOff says whether the way to a peer may have been lost. That of an address
// which is still there goes on; of another one it is not known from which it
// goes.
func (p *Peer) isCutOff(here addressSet, gone bool) bool {
	pc := p.Connection()
	if pc == nil || !isConnected(pc) {
		return true
	}
	pair, err := pc.SCTP().Transport().ICETransport().GetSelectedCandidatePair()
	if err != nil || pair == nil {
		return true
	}
	at, err := netip.ParseAddr(pair.Local.Address)
	return gone && (pair.Local.Typ != webrtc.ICECandidateTypeHost || err != nil || !here.has(at))
}

func isConnected(pc *webrtc.PeerConnection) bool {
	switch pc.ICEConnectionState() {
	case webrtc.ICEConnectionStateConnected, webrtc.ICEConnectionStateCompleted:
		return true
	}
	return false
}

// dialling is a context in which nodes are dialled. It ends when there is another
// network, from which they have to be dialled anew.
func (r *Room) dialling() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(r.work)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.redial = cancel
	return ctx, cancel
}

// hasNode is called when there is a node again: who is cut off can be told now.
func (r *Room) hasNode() {
	r.mu.Lock()
	gone := r.roamed
	r.roamed, r.redial = false, nil
	r.mu.Unlock()
	r.mend(r.here(), gone)
}

// doubtNode has the node show that it is there. Without it a connection that has
// broken without a word would be found out only when peers could have been told
// through another one.
func (r *Room) doubtNode() {
	r.mu.Lock()
	s := r.socket
	r.mu.Unlock()
	if s == nil {
		return
	}
	s.send(&protocol.ToNode{Ref: refBeat, Body: &protocol.ToNode_Beat{Beat: &protocol.Beat{}}})
	_ = s.ws.SetReadDeadline(time.Now().Add(showWithin)) // it has ended if that fails
}

// hasRoamed says whether the node was lost because of another network.
func (r *Room) hasRoamed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.roamed
}
