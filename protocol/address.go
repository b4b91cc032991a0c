package protocol

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Address is where a peer can be dialled: a member of an app of its own, on
// one node. Its text is that of a multiaddr,
//
//	/dns4/node.example/tcp/443/wss/p2p-webrtc-signal/<node id>/p2p/<peer id>
//
// with ip4 or ip6 for a node without a name, and ws for one without TLS. There
// is no binary form.
type Address struct {
	Host string // a name in lower case, or an IP address in its shortest form and without brackets
	Port uint16
	TLS  bool
	Node NodeID // that has to be found there
	Peer PeerID
}

// ParseAddress reads an Address. A name may be said to be dns, dns4 or dns6;
// all are looked up alike, and String prints dns4. Errors are CodeTooLarge and
// CodeMalformed.
func ParseAddress(s string) (Address, error) {
	if len(s) > MaxAddress {
		return Address{}, Errorf(CodeTooLarge, "address of %d bytes is over %d", len(s), MaxAddress)
	}
	part := strings.Split(s, "/")
	if len(part) != 10 || part[0] != "" || part[3] != "tcp" || (part[5] != "ws" && part[5] != "wss") || part[6] != "p2p-webrtc-signal" || part[8] != "p2p" {
		return Address{}, Errorf(CodeMalformed, "address is not of the form /dns4/host/tcp/443/wss/p2p-webrtc-signal/<node id>/p2p/<peer id>")
	}
	a := Address{TLS: part[5] == "wss"}
	var ok bool
	if a.Host, ok = addressHost(part[1], part[2]); !ok {
		return Address{}, Errorf(CodeMalformed, "address: %q is no host of the kind %q, which is one of dns, dns4, dns6, ip4 and ip6", part[2], part[1])
	}
	if a.Port, ok = parsePort(part[4]); !ok {
		return Address{}, Errorf(CodeMalformed, "address: port %q is not from 1 to 65535", part[4])
	}
	var err error
	if a.Node, err = ParseNodeID(part[7]); err != nil {
		return Address{}, err
	}
	a.Peer, err = ParsePeerID(part[9])
	if err != nil {
		return Address{}, err
	}
	return a, nil
}

// AddressOf is where a peer is reached on a node that is known by a URL of the
// form that URL prints.
func AddressOf(url string, node NodeID, peer PeerID) (Address, error) {
	a := Address{Node: node, Peer: peer, Port: 80}
	rest, ok := strings.CutPrefix(url, "ws://")
	if !ok {
		if rest, a.TLS = strings.CutPrefix(url, "wss://"); !a.TLS {
			return Address{}, Errorf(CodeMalformed, "address: a node's URL begins with ws:// or wss://")
		}
		a.Port = 443
	}
	host, port, hasPort := cutPort(rest)
	if hasPort {
		if a.Port, ok = parsePort(port); !ok {
			return Address{}, Errorf(CodeMalformed, "address: port %q is not from 1 to 65535", port)
		}
	}
	if a.Host, ok = linkIP(host); ok {
		return a, nil
	}
	if a.Host = strings.Map(asciiLower, host); !linkName(a.Host) {
		return Address{}, Errorf(CodeMalformed, "address: a node's URL is of the form wss://host[:port], with nothing around it")
	}
	return a, nil
}

// addressHost reads a host of a kind in its one spelling.
func addressHost(kind, host string) (string, bool) {
	switch kind {
	case "dns", "dns4", "dns6":
		host = strings.Map(asciiLower, host)
		return host, linkName(host)
	case "ip4", "ip6":
		ip, err := netip.ParseAddr(host)
		// An IPv4 address in IPv6 has its own kind, and a zone means something
		// on one machine only.
		if err != nil || ip.Is4() != (kind == "ip4") || ip.Is4In6() || ip.Zone() != "" {
			return "", false
		}
		return ip.String(), true
	}
	return "", false
}

// parsePort reads a port in its one spelling.
func parsePort(s string) (uint16, bool) {
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err == nil && n > 0 && s[0] != '0'
}

// String is the one text of the address.
func (a Address) String() string {
	kind, transport := "dns4", "ws"
	if ip, err := netip.ParseAddr(a.Host); err == nil {
		if kind = "ip6"; ip.Is4() {
			kind = "ip4"
		}
	}
	if a.TLS {
		transport = "wss"
	}
	return "/" + kind + "/" + a.Host + "/tcp/" + strconv.Itoa(int(a.Port)) + "/" + transport +
		"/p2p-webrtc-signal/" + a.Node.String() + "/p2p/" + a.Peer.String()
}

// URL is the node's, ws:// or wss://, with the port where it is not the usual
// one.
func (a Address) URL() string {
	scheme, usual := "ws://", uint16(80)
	if a.TLS {
		scheme, usual = "wss://", 443
	}
	if a.Port != usual {
		return scheme + net.JoinHostPort(a.Host, strconv.Itoa(int(a.Port)))
	}
	if strings.Contains(a.Host, ":") {
		return scheme + "[" + a.Host + "]"
	}
	return scheme + a.Host
}

// MarshalText prints as String does.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText is ParseAddress.
func (a *Address) UnmarshalText(text []byte) error {
	got, err := ParseAddress(string(text))
	*a = got
	return err
}
