package peer

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pion/webrtc/v4"

	"github.com/peerservers/peerserver/protocol"
)

// What a node may have its peers ask. Each connection asks all of it, so it is
// not much.
const (
	maxServers    = 16
	maxServerURLs = 16          // of all servers
	maxServerURL  = 300         // bytes: the longest name, and a port
	maxCredential = 512         // bytes, of a username and of a credential
	fewSTUN       = 2           // URLs that a connection asks at first
	iceLeast      = time.Minute // that credentials are good for at least
	iceAgain      = time.Minute // before a node that did not answer is asked again
)

// servers are the STUN and TURN servers of a room: those of the options, or else
// those that its node has named.
type servers struct {
	// Static.
	given []webrtc.ICEServer
	fixed bool // there are no others

	mu    sync.Mutex
	node  []webrtc.ICEServer // one URL each
	until time.Time          // when the credentials of node expire
	due   time.Time          // when others are asked for; zero: never
	udp   bool               // TURN over UDP has worked from this network
}

func newServers(o *Options) *servers {
	return &servers{given: o.ICEServers, fixed: o.NoNodeICE || len(o.ICEServers) > 0}
}

// list are those for a new connection. Each URL for TURN costs its server an
// allocation for as long as the connection lives, needed or not: so few are used
// at first, one for each transport, and when UDP is known to work only that one.
// Credentials that have expired are not used: a server would refuse them.
func (s *servers) list(few bool, now time.Time) (list []webrtc.ICEServer) {
	if s.fixed {
		return s.given
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	had := make(map[string]int)
	for _, one := range s.node {
		scheme, transport, _ := strings.Cut(kind(one.URLs[0]), " ")
		if scheme != "stun" && (!now.Before(s.until) || few && s.udp && transport != "udp") {
			continue
		}
		k := scheme + transport
		if had[k]++; few && (had[k] > fewSTUN || scheme != "stun" && had[k] > 1) {
			continue
		}
		list = append(list, one)
	}
	return list
}

// kind is the scheme and the transport of a URL that parseServer has taken.
func kind(u string) string {
	scheme, transport, _ := parseServer(u, true)
	return scheme + " " + transport
}

// worked says that there is an allocation that was made over UDP.
func (s *servers) worked() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.udp = true
}

// moved says that this machine's network is another one.
func (s *servers) moved() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.udp = false
}

// take takes what the node says, instead of all that was said before; one that
// says nothing leaves that. Of a node that is not on a private network itself,
// servers that are on one are not asked.
func (s *servers) take(said *protocol.IceServers, private bool, now time.Time) {
	if s.fixed || said == nil {
		return
	}
	list := usable(said, private)
	ttl := min(time.Duration(said.GetTtl())*time.Second, protocol.ICETTL)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.node, s.until, s.due = list, time.Time{}, time.Time{}
	if slices.ContainsFunc(list, func(i webrtc.ICEServer) bool { return i.Username != "" }) {
		ttl = max(ttl, iceLeast)
		s.until, s.due = now.Add(ttl), now.Add(ttl*3/4)
	}
}

// wait is how long it is until others are asked for.
func (s *servers) wait(now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.due.IsZero() {
		return never
	}
	return max(s.due.Sub(now), 0)
}

// asks is called when the node is asked, and returns when it is asked again if it
// does not answer.
func (s *servers) asks(now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.due = now.Add(iceAgain)
	return iceAgain
}

// hasTURN says whether there is a TURN server.
func (s *servers) hasTURN() bool {
	return slices.ContainsFunc(s.list(true, time.Now()), func(i webrtc.ICEServer) bool {
		return slices.ContainsFunc(i.URLs, func(u string) bool { return strings.HasPrefix(u, "turn") })
	})
}

// usable is what of a node's servers is used, one URL to each.
func usable(said *protocol.IceServers, private bool) (list []webrtc.ICEServer) {
	for _, one := range said.GetServers()[:min(len(said.GetServers()), maxServers)] {
		user, credential := one.GetUsername(), one.GetCredential()
		for _, u := range one.GetUrls()[:min(len(one.GetUrls()), maxServerURLs)] {
			scheme, _, ok := parseServer(u, private)
			switch {
			case !ok || len(list) == maxServerURLs:
			case scheme == "stun":
				list = append(list, webrtc.ICEServer{URLs: []string{u}})
			case user != "" && credential != "" && len(user) <= maxCredential && len(credential) <= maxCredential:
				list = append(list, webrtc.ICEServer{URLs: []string{u}, Username: user, Credential: credential})
			}
		}
	}
	return list
}

// parseServer reads a URL of RFC 7064 or RFC 7065, which here has a port. What is
// asked in a node's name is no service of others that happens to take bytes: of
// the ports below 1024 only those of the web are, and of private addresses none
// unless the node is on a private network as well.
func parseServer(s string, private bool) (scheme, transport string, ok bool) {
	if len(s) > maxServerURL {
		return "", "", false
	}
	scheme, rest, _ := strings.Cut(s, ":")
	rest, query, asks := strings.Cut(rest, "?")
	transport, named := strings.CutPrefix(query, "transport=")
	switch {
	case asks && !named:
		return "", "", false
	case !asks && scheme == "turns":
		transport = "tcp"
	case !asks:
		transport = "udp"
	}
	switch scheme + " " + transport {
	case "stun udp", "turn udp", "turn tcp", "turns tcp":
	default:
		return "", "", false
	}
	host, port, err := net.SplitHostPort(rest)
	if err != nil || !isServerHost(host, private) {
		return "", "", false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return scheme, transport, err == nil && (n >= 1024 || n == 80 || n == 443)
}

func isServerHost(host string, private bool) bool {
	if a, err := netip.ParseAddr(host); err == nil {
		a = a.Unmap()
		return a.Zone() == "" && !a.IsUnspecified() && !a.IsMulticast() && (private || !isPrivate(a))
	}
	return host != "" && !strings.ContainsFunc(host, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '-'
	})
}

func isPrivate(a netip.Addr) bool {
	return a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast()
}

// isNear says whether the other end of a connection is on a private network, or
// is this machine.
func isNear(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && isPrivate(tcp.AddrPort().Addr().Unmap())
}

// takeServers takes what the node says of servers.
func (r *Room) takeServers(s *socket, said *protocol.IceServers) {
	r.servers.take(said, isNear(s.ws.RemoteAddr()), time.Now())
	select {
	case s.served <- struct{}{}:
	default:
	}
}
