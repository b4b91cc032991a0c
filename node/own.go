package node

import (
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/peerservers/peerserver/protocol"
)

// isOwn says whether a URL that a client dialled is one of this node's, so that
// another node cannot use the client's login here. Own are the URLs of the
// node's record, and with the node's port addresses of this machine and the hosts
// for which it has a certificate. A node on
// a LAN has names that it does not know, such as those of mDNS: with private
// addresses allowed, whatever the request was for is its own too.
func (n *Node) isOwn(dialled, host string) bool {
	u, err := url.Parse(dialled)
	if err != nil || (u.Scheme != "ws" && u.Scheme != "wss") || u.Host == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
		return false
	}
	if own := n.finder.own(); own != nil {
		for _, s := range own.URLs {
			if strings.EqualFold(s, dialled) || sameURL(s, dialled) {
				return true
			}
		}
	}
	if n.cfg.AllowPrivate && strings.EqualFold(u.Host, host) {
		return true
	}
	_, port, _ := net.SplitHostPort(n.listener.Addr().String())
	if u.Port() != port && (u.Port() != "" || port != defaultPort(u.Scheme)) {
		return false
	}
	return strings.EqualFold(u.Hostname(), "localhost") || isHere(u.Hostname()) || n.certs.isFor(u.Hostname())
}

// sameURL says whether two URLs lead to one place: ports may be left out.
func sameURL(a, b string) bool {
	u, err := protocol.ParseLinkURL(a)
	v, err2 := protocol.ParseLinkURL(b)
	return err == nil && err2 == nil && u == v
}

func defaultPort(scheme string) string {
	if scheme == "wss" {
		return strconv.Itoa(443)
	}
	return strconv.Itoa(80)
}

// isHere says whether an address is one of this machine's.
func isHere(host string) bool {
	a, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	if a = a.Unmap().WithZone(""); a.IsLoopback() {
		return true
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, i := range all {
		if p, err := netip.ParsePrefix(i.String()); err == nil && p.Addr().Unmap() == a {
			return true
		}
	}
	return false
}

// records are this node's and those of linked nodes, where a client goes when
// this one is gone.
func (n *Node) records() []*protocol.SignedRecord {
	var list []*protocol.SignedRecord
	if own := n.finder.own(); own != nil {
		list = append(list, own.Signed)
	}
	return append(list, n.relay.Records(protocol.MaxNodesRecords-len(list))...)
}
