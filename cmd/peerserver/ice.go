package main

import (
	"flag"

	"github.com/peerservers/peerserver/node"
)

// iceFlags declares what a node does for the connections of its peers.
func iceFlags(fs *flag.FlagSet, cfg *node.Config) {
	fs.StringVar(&cfg.STUN, "stun", "", "UDP `address` of STUN and TURN; port 3478 beside --listen, or any if that is not free, when empty; none is none")
	fs.BoolVar(&cfg.TURN, "turn", false, "relay what peers without a direct path say to each other, over UDP and TCP on the address of --stun; it costs traffic")
	fs.StringVar(&cfg.TURNTLS, "turn-tls", "", "`address` of TURN over TLS; port 5349 beside --stun when empty, if the node has certificates; none is none")
	fs.StringVar(&cfg.TURNPorts, "turn-ports", "50000-50999", "UDP `ports` from which TURN relays; a firewall has to let them in")
	fs.Int64Var(&cfg.TURNRate, "turn-rate", 0, "how many `bytes` a second TURN relays for one peer; 2 MiB when 0, no bound when -1")
	fs.Int64Var(&cfg.TURNDay, "turn-day", 0, "how many `bytes` a day TURN relays in all; 128 GiB when 0, no bound when -1")
	fs.BoolVar(&cfg.TURNAllowPrivate, "turn-allow-private", false, "let TURN relay to private and loopback addresses: whoever uses it is then inside this network")
	fs.BoolVar(&cfg.Portmap, "portmap", false, "have the router of a home let in the node's ports, by PCP, NAT-PMP or UPnP; --turn-ports too if they are at most 16")
	fs.StringVar(&cfg.ICEHost, "ice-host", "", "`host` at which peers reach STUN and TURN, where it is another than the node's, as behind a proxy on another machine")
}
