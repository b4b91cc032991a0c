package doctor

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"net/url"

	"github.com/peerservers/peerserver/node"
	"github.com/peerservers/peerserver/protocol"
)

// findHere finds the node of this machine, by its admin address.
func (s *subject) findHere(ctx context.Context) *Finding {
	client := &http.Client{Timeout: stepWithin, CheckRedirect: noRedirect, Transport: new(http.Transport)}
	defer client.CloseIdleConnections()
	var self node.Self
	status, err := get(ctx, client, "http://"+s.opts.Admin+"/self.json", &self)
	if err != nil || status != http.StatusOK {
		f := bad(NodeDown, "No node of this machine answers at the admin address %s.", s.opts.Admin).of("node")
		f.Do = "Start the node, name its data folder with --data or its admin address with --admin, or give the URL of a node."
		return &f
	}
	s.self = &self
	if len(s.opts.Bootstrap) == 0 {
		s.opts.Bootstrap = self.Bootstrap
	}
	at, err := netip.ParseAddrPort(self.Listen)
	if err != nil {
		f := bad(NodeOther, "The admin address %s does not say where the node is.", s.opts.Admin).of("node")
		return &f
	}
	s.use(&url.URL{Scheme: scheme(self.TLS), Host: here(at)})
	return nil
}

func scheme(secure bool) string {
	if secure {
		return "https"
	}
	return "http"
}

// here is where this machine reaches an address that it listens on.
func here(at netip.AddrPort) string {
	if at.Addr().IsUnspecified() {
		at = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), at.Port())
	}
	return at.String()
}

// outside goes on with the URL of the node's record, where others reach it, if
// it can be reached from here.
func (s *subject) outside(ctx context.Context) []Finding {
	for _, link := range s.about.URLs {
		l, err := protocol.ParseLinkURL(link)
		if err != nil {
			continue
		}
		there := &subject{opts: s.opts, self: s.self, login: s.login}
		there.use(&url.URL{Scheme: scheme(l.Secure), Host: net.JoinHostPort(l.Host, portOf(l))})
		if there.base.Host == s.base.Host && there.base.Scheme == s.base.Scheme {
			return nil
		}
		f := there.ask(ctx)
		there.close()
		if !there.answers || there.node != s.node {
			return one(bad(URLNotHere, "At %s, where others are told to reach it, the node is not reached from this machine: %s", link, f.Found).of("node"))
		}
		s.use(there.base)
		s.about, s.record, s.seen = there.about, there.record, there.seen
		if there.stats != nil {
			s.stats = there.stats
		}
		return one(ok("It is reached at %s too, and looked at there.", link).of("node"))
	}
	return nil
}
