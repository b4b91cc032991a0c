package ice

import (
	"net"
	"net/netip"
)

func addressesOf(list ...string) func() []netip.Addr {
	var as []netip.Addr
	for _, s := range list {
		as = append(as, netip.MustParseAddr(s))
	}
	return func() []netip.Addr { return as }
}

// permit has two relayed peers send each other something, which gives each a
// permission for the other.
func permit(a, b net.PacketConn) {
	_, _ = a.WriteTo([]byte("let in"), b.LocalAddr())
	_, _ = b.WriteTo([]byte("let in"), a.LocalAddr())
}
