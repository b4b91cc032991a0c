package node

import (
	"github.com/peerservers/peerserver/node/portmap"
	"github.com/peerservers/peerserver/protocol"
)

// mostRelayPorts is how many relay ports of TURN a router is asked for: each is a
// mapping of its own, and home routers have few.
const mostRelayPorts = 16

// openPortmap makes what has the router let in the node's ports.
func (n *Node) openPortmap() {
	if !n.cfg.Portmap {
		return
	}
	if n.reach == nil {
		n.log.Warn("no router is asked to map ports: the node listens on loopback only", "flag", "--portmap")
		return
	}
	if low, high, _ := parsePorts(n.cfg.TURNPorts); n.cfg.TURN && int(high)-int(low) >= mostRelayPorts {
		n.log.Warn("the relay ports of TURN are too many to be mapped: forward them by hand, or have fewer", "most", mostRelayPorts,
			"such as", "--turn-ports 50000-50015")
	}
	n.mapper = portmap.New(portmap.Config{Ports: n.mappedPorts(), Log: n.log})
	n.reach.mapped = n.mapped
}

// mappedPorts are those that a router is to let in: of the node, of the DHT, of
// STUN and TURN, and the relay ports if they are few.
func (n *Node) mappedPorts() []portmap.Port {
	ports := []portmap.Port{{TCP: true, Number: portOf(n.listener.Addr())}}
	if n.packets != nil {
		ports = append(ports, portmap.Port{Number: portOf(n.packets.LocalAddr())})
	}
	stun, turn, tls := n.icePorts()
	if stun != 0 {
		ports = append(ports, portmap.Port{Number: stun})
	}
	if turn != 0 {
		// The record has one number for UDP and TCP.
		ports = append(ports, portmap.Port{TCP: true, Number: turn})
	}
	for _, p := range tls {
		if p != ports[0].Number {
			ports = append(ports, portmap.Port{TCP: true, Number: p, Exact: true})
		}
	}
	low, high, err := parsePorts(n.cfg.TURNPorts)
	if turn == 0 || err != nil || int(high)-int(low) >= mostRelayPorts {
		return ports
	}
	for p := int(low); p <= int(high); p++ {
		ports = append(ports, portmap.Port{Number: uint16(p), Exact: true}) // a relayed address is told with its number
	}
	return ports
}

// mapped is what the router does now.
func (n *Node) mapped() mapped {
	s := n.mapper.State()
	m := mapped{mapper: s.Protocol}
	if s.Protocol == "" {
		m.mapper = none
	}
	if a := s.Address; protocol.Public(a) || (n.cfg.AllowPrivate && a.IsValid() && !a.IsUnspecified()) {
		m.address = a
	}
	stun, _, _ := n.icePorts()
	for _, p := range s.Mappings {
		switch {
		case p.TCP && p.Number == portOf(n.listener.Addr()):
			m.tcp = p.External
		case !p.TCP && p.Number == stun && stun != 0:
			m.stun = p.External
		}
	}
	return m
}
