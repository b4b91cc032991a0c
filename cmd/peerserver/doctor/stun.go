package doctor

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/peerservers/peerserver/node/ice"
)

const stunWithin = 5 * time.Second // four questions

// reply is what a STUN server has said.
type reply struct {
	server
	at  netip.AddrPort // where it is
	err error
}

// askSTUN asks the STUN servers that peers are told of, once for all checks.
func (s *subject) askSTUN(ctx context.Context) ([]reply, error) {
	servers, err := s.servers(ctx)
	if err != nil {
		return nil, err
	}
	var list []reply
	for _, u := range servers {
		if u.scheme == "stun" {
			list = append(list, reply{server: u})
		}
	}
	var all sync.WaitGroup
	for i := range list {
		all.Go(func() { list[i].err = s.askOne(ctx, &list[i]) })
	}
	all.Wait()
	return list, nil
}

func (s *subject) askOne(ctx context.Context, r *reply) (err error) {
	ctx, cancel := context.WithTimeout(ctx, stunWithin)
	defer cancel()
	if r.at, err = s.lookup(ctx, &r.server); err != nil {
		return err
	}
	conn, err := listenUDP(ctx, r.at.Addr())
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = ice.Discover(ctx, conn, r.at)
	return err
}

// listenUDP is a socket of the family of an address.
func listenUDP(ctx context.Context, to netip.Addr) (net.PacketConn, error) {
	network := "udp6"
	if to.Is4() {
		network = "udp4"
	}
	return new(net.ListenConfig).ListenPacket(ctx, network, ":0")
}

// checkSTUN says which of the servers answer.
func (s *subject) checkSTUN(ctx context.Context) (found []Finding) {
	list, err := s.stun(ctx)
	if err != nil {
		return unknown(err)
	}
	if s.isBlocked(ctx) {
		return one(bad(UDPUnknown, "No STUN server answers this machine, of %d on different nodes: nothing is known of their ports.", len(list)))
	}
	own := false
	for _, r := range list {
		own = own || r.own
		switch {
		case r.err == nil && r.own:
			found = append(found, ok("STUN answers at UDP port %s.", r.port))
		case r.err == nil:
			found = append(found, ok("STUN answers at %s, of another node.", r.server.String()))
		case r.own:
			found = append(found, bad(STUNSilent, "STUN does not answer at UDP port %s.", r.port))
		default:
			found = append(found, bad(STUNOther, "STUN does not answer at %s, of another node.", r.server.String()))
		}
	}
	if !own {
		found = append(found, bad(STUNNone, "The node has no STUN of its own."))
	}
	return found
}

// isBlocked says whether no UDP comes back to this machine, as far as that can be
// told: then nothing is known of the ports of the node.
func (s *subject) isBlocked(ctx context.Context) bool {
	list, err := s.stun(ctx)
	return err == nil && len(list) > 1 && !slices.ContainsFunc(list, func(r reply) bool { return r.err == nil })
}

// checkNAT says what the NAT of this machine's network does: the address that
// two servers see one socket at, and the socket's own.
func (s *subject) checkNAT(ctx context.Context) []Finding {
	list, err := s.stun(ctx)
	if err != nil {
		return one(bad(NATUnknown, "There is no STUN server to ask."))
	}
	var answer []netip.AddrPort
	for _, r := range list {
		if r.err == nil && (len(answer) == 0 || r.at.Addr().Is4() == answer[0].Addr().Is4()) {
			answer = append(answer, r.at)
		}
	}
	if s.isBlocked(ctx) {
		return one(bad(UDPBlocked, "None of %d STUN servers answers this machine over UDP, while the node does over TCP.", len(list)))
	}
	if len(answer) == 0 {
		return one(bad(NATUnknown, "No STUN server answers this machine."))
	}
	return one(mapped(ctx, answer))
}

func mapped(ctx context.Context, servers []netip.AddrPort) Finding {
	conn, err := listenUDP(ctx, servers[0].Addr())
	if err != nil {
		return bad(NATUnknown, "No socket for it can be opened: %s.", why(err))
	}
	defer conn.Close()
	var seen []netip.AddrPort
	for _, at := range servers[:min(len(servers), 2)] {
		ctx, cancel := context.WithTimeout(ctx, stunWithin)
		at, err := ice.Discover(ctx, conn, at)
		cancel()
		if err == nil {
			seen = append(seen, at)
		}
	}
	switch {
	case len(seen) > 0 && isOwnAddress(seen[0].Addr()):
		return ok("This machine is behind no NAT, as seen from there.")
	case len(seen) < 2:
		return bad(NATUnknown, "This machine is behind a NAT, and one STUN server is not enough to tell its kind.")
	case seen[0] == seen[1]:
		return ok("The NAT of this machine gives all destinations the same port: direct connections work with most peers.")
	}
	return bad(NATSymmetric, "The NAT of this machine gives each destination another port (symmetric).")
}

func isOwnAddress(a netip.Addr) bool {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, i := range all {
		if p, err := netip.ParsePrefix(i.String()); err == nil && p.Addr().Unmap() == a.Unmap() {
			return true
		}
	}
	return false
}
