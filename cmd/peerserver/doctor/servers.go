package doctor

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"github.com/peerservers/peerserver/protocol"
)

const maxServers = 8 // URLs that are tried, of all that a node names

// server is one URL of a STUN or TURN server.
type server struct {
	scheme, host, port, transport string // transport is "udp" or "tcp"
	user, password                string
	own                           bool // of the node that is looked at
}

// servers are what peers of the node are told to use.
func (s *subject) servers(ctx context.Context) (list []server, err error) {
	var all []told
	m, err := s.login()
	switch {
	case s.isDenied(err):
		return nil, err
	case err == nil:
		for _, one := range m.ice.GetServers() {
			all = append(all, told{one.GetUrls(), one.GetUsername(), one.GetCredential()})
		}
	default: // it may be the door that is off, or a certificate: anybody is told of STUN
		if _, err := s.get(ctx, "/v1/ice", &all); err != nil {
			return nil, err
		}
	}
	for _, one := range all {
		for _, text := range one.URLs {
			if u, err := parseServer(text); err == nil && len(list) < maxServers {
				u.user, u.password, u.own = one.Username, one.Credential, s.isOwn(u.host)
				list = append(list, u)
			}
		}
	}
	return list, nil
}

// told is an entry of /v1/ice.
type told struct {
	URLs                 []string
	Username, Credential string
}

// isOwn says whether a server is the node's. It names its own at the host that
// the client has dialled, unless --ice-host says otherwise; then it is the first.
func (s *subject) isOwn(host string) bool { return strings.EqualFold(host, s.base.Hostname()) }

// parseServer reads a URL of RFC 7064 or RFC 7065 that has a port.
func parseServer(text string) (server, error) {
	scheme, rest, _ := strings.Cut(text, ":")
	rest, query, _ := strings.Cut(rest, "?")
	host, port, err := net.SplitHostPort(rest)
	if err != nil {
		return server{}, err
	}
	q, err := url.ParseQuery(query)
	if err != nil {
		return server{}, err
	}
	u := server{scheme: scheme, host: host, port: port, transport: q.Get("transport")}
	if u.transport == "" {
		u.transport = map[string]string{"stun": "udp", "turn": "udp", "turns": "tcp"}[scheme]
	}
	switch scheme + " " + u.transport {
	case "stun udp", "turn udp", "turn tcp", "turns tcp":
		return u, nil
	}
	return server{}, fmt.Errorf("%q is not used by peers", text)
}

// over is the transport as people say it.
func (u *server) over() string {
	if u.scheme == "turns" {
		return "TLS"
	}
	return strings.ToUpper(u.transport)
}

// unknown is the finding where the node does not say which servers it has.
func (s *subject) unknown(err error) []Finding {
	if s.isDenied(err) {
		return one(bad(NodeDenied, "Who has no token is not told of servers."))
	}
	return one(bad(NodeOther, "The node does not say which servers it has: %s.", why(err)))
}

// String is the server as findings name it.
func (u *server) String() string { return net.JoinHostPort(u.host, u.port) }

// lookup is the server's address. Those of other nodes come from strangers: they
// are not asked on private networks.
func (s *subject) lookup(ctx context.Context, u *server) (netip.AddrPort, error) {
	all, err := net.DefaultResolver.LookupNetIP(ctx, "ip", u.host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	var port uint16
	if _, err := fmt.Sscan(u.port, &port); err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q is no port", u.port)
	}
	best := netip.Addr{}
	for _, a := range all {
		if a = a.Unmap(); !best.IsValid() || a.Is4() && !best.Is4() {
			best = a
		}
	}
	if !u.own && !s.near && !protocol.Public(best) {
		return netip.AddrPort{}, fmt.Errorf("%s is not on the internet", u.host)
	}
	return netip.AddrPortFrom(best, port), nil
}
