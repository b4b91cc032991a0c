//go:build linux

package natlab

import (
	"fmt"
	"slices"
)

// NAT is what stands between a home and the internet.
type NAT int

// Kinds of NAT, by what RFC 4787 calls their mapping and filtering of UDP. TCP
// goes out of all of them, and in of none but Public.
const (
	Public            NAT = iota // none: the host is on the internet
	FullCone                     // one mapping for all that a port sends; anybody may send to it
	AddressRestricted            // one mapping; only addresses that were sent to may
	PortRestricted               // one mapping; only addresses and ports that were sent to may
	Symmetric                    // a mapping for each address and port that is sent to, which alone may
	Double                       // a port-restricted one behind another, of the provider
	UDPBlocked                   // only TCP gets out
	WebOnly                      // only TCP to the ports of the web gets out, 80 and 443
)

// Kinds are all of them.
func Kinds() []NAT {
	return []NAT{Public, FullCone, AddressRestricted, PortRestricted, Symmetric, Double, UDPBlocked, WebOnly}
}

func (n NAT) String() string {
	names := []string{"public", "full cone", "address-restricted", "port-restricted", "symmetric", "double NAT", "UDP blocked", "web only"}
	if !slices.Contains(Kinds(), n) {
		return "unknown NAT"
	}
	return names[n]
}

// The devices of a router.
const (
	wan = "wan"
	lan = "lan"
)

// rules are what nft is to do in a router, whose devices are wan and lan. What
// comes unasked is dropped without a word: an answer would tell a peer sooner
// than a home router does that there is no way.
//
// Masquerade keeps the source port where it can, and lets in what connection
// tracking knows: that is port-restricted. With fully-random each connection gets
// a port of its own: symmetric. The two cones remember by themselves who has
// which port, so that others get in too.
func (n NAT) rules() string {
	var masquerade, remember, find string
	allowed := "accept"
	switch n {
	case FullCone:
		remember, find = "udp sport", "udp dport"
	case AddressRestricted:
		remember, find = "udp sport . ip daddr", "udp dport . ip saddr"
	case Symmetric:
		masquerade = "random,fully-random"
	case UDPBlocked:
		allowed = "meta l4proto tcp accept"
	case WebOnly:
		allowed = "tcp dport { 80, 443 } accept"
	}
	return fmt.Sprintf(router, masquerade, allowed) + cone(remember, find)
}

const router = `
table ip home {
	chain out {
		type nat hook postrouting priority srcnat
		oifname wan masquerade %s
	}
	chain through {
		type filter hook forward priority filter; policy drop
		ct state established,related accept
		iifname lan oifname wan %s
		ct status dnat accept
	}
	chain to_the_router {
		type filter hook input priority filter; policy drop
		iifname lan accept
	}
}
`

// cone lets in what finds a mapping: who has a port (by its mapped number), and
// whom it has sent to.
func cone(remember, find string) string {
	if remember == "" {
		return ""
	}
	types := map[string]string{"udp sport": "inet_service", "udp sport . ip daddr": "inet_service . ipv4_addr"}
	return fmt.Sprintf(`
table ip cone {
	map mapped {
		type %s : ipv4_addr . inet_service
		flags dynamic,timeout
		timeout 2m
		size 65535
	}
	chain remember {
		type filter hook postrouting priority srcnat + 1
		oifname wan meta l4proto udp ct direction original update @mapped { %s : ct original ip saddr . ct original proto-src }
	}
	chain in {
		type nat hook prerouting priority dstnat
		iifname wan meta l4proto udp dnat ip to %s map @mapped
	}
}
`, types[remember], remember, find)
}
