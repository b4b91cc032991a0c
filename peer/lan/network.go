package lan

import "net/netip"

// Interface is one of this machine's by which it is on a LAN.
type Interface struct {
	Index   int
	Name    string
	Subnets []netip.Prefix // its private and link-local addresses, each with the length of its subnet
}

// near says whether an address is on a subnet of the interface.
func (i *Interface) near(a netip.Addr) bool {
	if a.Zone() != "" && a.Zone() != i.Name {
		return false
	}
	a = a.Unmap().WithZone("")
	for _, s := range i.Subnets {
		if s.Contains(a) {
			return true
		}
	}
	return false
}

// Network is where beacons are sent and heard. Tests have one in memory.
type Network interface {
	// Interfaces are those that are up now.
	Interfaces() ([]Interface, error)
	// Listen opens one Conn or more, such as one for IPv4 and one for IPv6.
	Listen() ([]Conn, error)
}

// Conn sends to the beacons' group of one family and receives from it. Send and
// Join are called by one goroutine, Receive by another.
type Conn interface {
	// Join has what is sent on an interface be received.
	Join(Interface) error
	// Send sends on an interface, if that has an address of the family.
	Send(Interface, []byte) error
	// Receive waits for a datagram until Close. index is the interface's, 0
	// where that is not known.
	Receive(b []byte) (n int, from netip.Addr, index int, err error)
	Close() error
}
