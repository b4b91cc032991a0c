package protocol

import "net/netip"

// special4 is what is not public of IPv4: the IANA special-purpose registry,
// multicast, and one public address behind which clouds keep their metadata.
var special4 = prefixes(
	"0.0.0.0/8",        // this network; 0.0.0.0 is this machine
	"10.0.0.0/8",       // private
	"100.64.0.0/10",    // behind carriers' NAT
	"127.0.0.0/8",      // loopback
	"168.63.129.16/32", // Azure's metadata
	"169.254.0.0/16",   // link-local, most clouds' metadata
	"172.16.0.0/12",    // private
	"192.0.0.0/24",     // IETF protocols, Oracle's metadata
	"192.0.2.0/24",     // documentation
	"192.88.99.0/24",   // 6to4 relays
	"192.168.0.0/16",   // private
	"198.18.0.0/15",    // benchmarking
	"198.51.100.0/24",  // documentation
	"203.0.113.0/24",   // documentation
	"224.0.0.0/4",      // multicast
	"240.0.0.0/4",      // reserved, broadcast
)

var (
	// Everything public of IPv6 is in global6, so that what is not listed, such
	// as loopback, ULA, link-local, multicast and v4-compatible, is not.
	global6 = netip.MustParsePrefix("2000::/3")

	// special6 is what is not public in global6.
	special6 = prefixes(
		"2001::/23",     // IETF protocols and benchmarking; Teredo is looked at before
		"2001:db8::/32", // documentation
		"3fff::/20",     // documentation
	)

	// These carry an IPv4 address, which is the one that counts. The local
	// NAT64 prefix 64:ff9b:1::/48 is not among them: where in it the address
	// stands only its network knows.
	nat64  = netip.MustParsePrefix("64:ff9b::/96")
	to4    = netip.MustParsePrefix("2002::/16")
	teredo = netip.MustParsePrefix("2001::/32")
)

func prefixes(list ...string) []netip.Prefix {
	ps := make([]netip.Prefix, len(list))
	for i, s := range list {
		ps[i] = netip.MustParsePrefix(s)
	}
	return ps
}

func within(ps []netip.Prefix, a netip.Addr) bool {
	for _, p := range ps {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// EmbeddedIPv4 are the IPv4 addresses that an IPv6 address stands for.
func EmbeddedIPv4(a netip.Addr) []netip.Addr {
	if a.Is4() {
		return nil
	}
	b := a.As16()
	v4 := func(b ...byte) netip.Addr { return netip.AddrFrom4([4]byte(b)) }
	switch {
	case nat64.Contains(a):
		return []netip.Addr{v4(b[12:16]...)}
	case to4.Contains(a):
		return []netip.Addr{v4(b[2:6]...)}
	case teredo.Contains(a): // its server, and its client with all bits turned
		return []netip.Addr{v4(b[4:8]...), v4(^b[12], ^b[13], ^b[14], ^b[15])}
	}
	return nil
}

// Public says whether an address is one of the public Internet. None with a zone
// is.
func Public(a netip.Addr) bool {
	a = a.Unmap()
	if a.Is4() {
		return !within(special4, a)
	}
	if inside := EmbeddedIPv4(a); inside != nil {
		for _, v4 := range inside {
			if !Public(v4) {
				return false
			}
		}
		return a.Zone() == ""
	}
	return global6.Contains(a) && !within(special6, a)
}

// labs are what a LAN, or a network of tests, is numbered with.
var labs = prefixes(
	"10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16",
	"192.0.2.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
	"::1/128", "fc00::/7", "2001:db8::/32", "3fff::/20",
)

// Lab says whether an address is of a private network, loopback included, or of
// one that stands in documents and tests. Link-local, multicast and metadata
// addresses are not: they are not of anybody's choice.
func Lab(a netip.Addr) bool { return within(labs, a.Unmap()) }
