package doctor

import (
	"context"
	"net"
	"net/netip"
	"slices"

	"github.com/pion/webrtc/v4"

	"github.com/peerservers/peerserver/peer"
)

// heard is what the STUN servers have said that peers are told of.
type heard struct {
	replies []reply
	nat     peer.NAT // of this machine's network
}

// reply is whether a server has answered.
type reply struct {
	server
	ok bool
}

func (h *heard) any() bool { return slices.ContainsFunc(h.replies, func(r reply) bool { return r.ok }) }

// askSTUN asks the servers as a peer does.
func (s *subject) askSTUN(ctx context.Context) (*heard, error) {
	servers, err := s.servers(ctx)
	if err != nil {
		return nil, err
	}
	h := new(heard)
	var list []webrtc.ICEServer
	for _, u := range servers {
		if u.scheme != "stun" {
			continue
		}
		if _, err := s.lookup(ctx, &u); err == nil || u.own {
			h.replies = append(h.replies, reply{server: u})
			list = append(list, webrtc.ICEServer{URLs: []string{"stun:" + u.String()}})
		}
	}
	d := peer.Diagnose(ctx, list, nil)
	h.nat = d.NAT
	for i := range min(len(h.replies), len(d.STUN)) {
		h.replies[i].ok = d.STUN[i].OK
	}
	return h, nil
}

// checkSTUN says which of the servers answer.
func (s *subject) checkSTUN(context.Context) (found []Finding) {
	h, err := s.stun()
	if err != nil {
		return s.unknown(err)
	}
	if s.isBlocked() {
		return one(bad(UDPUnknown, "No STUN server answers this machine, of %d on different nodes: nothing is known of their ports.", len(h.replies)))
	}
	own := false
	for _, r := range h.replies {
		own = own || r.own
		switch {
		case r.ok && r.own:
			found = append(found, ok("STUN answers at UDP port %s.", r.port))
		case r.ok:
			found = append(found, ok("STUN answers at %s, of another node.", r.String()))
		case r.own:
			found = append(found, bad(STUNSilent, "STUN does not answer at UDP port %s.", r.port))
		default:
			found = append(found, bad(STUNOther, "STUN does not answer at %s, of another node.", r.String()))
		}
	}
	if !own {
		found = append(found, bad(STUNNone, "The node has no STUN of its own."))
	}
	return found
}

// isBlocked says whether no UDP comes back to this machine, as far as that can be
// told: then nothing is known of the ports of the node.
func (s *subject) isBlocked() bool {
	h, err := s.stun()
	return err == nil && len(h.replies) > 1 && !h.any()
}

// checkNAT says what the NAT of this machine's network does.
func (s *subject) checkNAT(context.Context) []Finding {
	h, err := s.stun()
	switch {
	case err != nil:
		return one(bad(NATUnknown, "There is no STUN server to ask."))
	case s.isBlocked():
		return one(bad(UDPBlocked, "None of %d STUN servers answers this machine over UDP, while the node does over TCP.", len(h.replies)))
	case h.nat == peer.NATNone:
		return one(ok("This machine is behind no NAT, as seen from there."))
	case h.nat == peer.NATCone:
		return one(ok("The NAT of this machine gives all destinations the same port: direct connections work with most peers."))
	case h.nat == peer.NATSymmetric:
		return one(bad(NATSymmetric, "The NAT of this machine gives each destination another port (symmetric)."))
	}
	return one(bad(NATUnknown, "The kind of this machine's NAT is not known: fewer than two STUN servers have answered."))
}

// listenUDP is a socket of the family of an address.
func listenUDP(ctx context.Context, to netip.Addr) (net.PacketConn, error) {
	network := "udp6"
	if to.Is4() {
		network = "udp4"
	}
	return new(net.ListenConfig).ListenPacket(ctx, network, ":0")
}
