package node

import (
	"fmt"
	"slices"
	"strings"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/node/door/matchbox"
	"github.com/peerservers/peerserver/node/door/native"
	"github.com/peerservers/peerserver/node/door/peerjs"
	"github.com/peerservers/peerserver/node/door/rxdb"
	"github.com/peerservers/peerserver/node/door/tracker"
	"github.com/peerservers/peerserver/node/door/wsrelay"
	"github.com/peerservers/peerserver/node/door/ywebrtc"
)

// maker makes a door with places for so many clients.
type maker struct {
	name string
	make func(n *Node, clients int) door.Door
}

// makers are all doors that there are. At "/" those that come later are asked
// first whether a client is theirs, and the tracker gets who is nobody's.
func makers() []maker {
	return []maker{
		{tracker.Name, func(n *Node, clients int) door.Door {
			return tracker.New(tracker.Config{Host: n.host, Relay: n.relay, Clients: clients})
		}},
		{native.Name, (*Node).makeNative},
		{peerjs.Name, func(n *Node, clients int) door.Door {
			return peerjs.New(peerjs.Config{Host: n.host, Relay: n.relay, Clients: clients, Discovery: n.cfg.PeerJSDiscovery})
		}},
		{ywebrtc.Name, func(n *Node, clients int) door.Door {
			return ywebrtc.New(ywebrtc.Config{Host: n.host, Relay: n.relay, Clients: clients})
		}},
		{wsrelay.Name, func(n *Node, clients int) door.Door {
			return wsrelay.New(wsrelay.Config{Host: n.host, Relay: n.relay, Clients: clients})
		}},
		{rxdb.Name, func(n *Node, clients int) door.Door {
			return rxdb.New(rxdb.Config{Host: n.host, Relay: n.relay, Clients: clients})
		}},
		{matchbox.Name, func(n *Node, clients int) door.Door {
			return matchbox.New(matchbox.Config{Host: n.host, Relay: n.relay, Clients: clients})
		}},
	}
}

func (n *Node) makeNative(clients int) door.Door {
	n.native = native.New(native.Config{
		Host: n.host, Relay: n.relay, Key: n.cfg.Key, IsOwn: n.isOwn, Nodes: n.records, ICE: n.iceServers,
		RelayData: max(n.cfg.RelayData, 0), Clients: clients,
	})
	return n.native
}

// makeDoors makes the doors that are on.
func (n *Node) makeDoors() {
	for _, m := range makers() {
		if n.cfg.has(m.name) {
			n.doors = append(n.doors, m.make(n, n.cfg.Clients[m.name]))
		}
	}
}

// has says whether a door is on.
func (c *Config) has(name string) bool { return !slices.Contains(c.Without, name) }

// Doors are the names of all doors that a node can have.
func Doors() []string {
	var names []string
	for _, m := range makers() {
		names = append(names, m.name)
	}
	return names
}

// checkDoor says of a name from a flag that there is no such door.
func checkDoor(name, flag string) error {
	if slices.Contains(Doors(), name) {
		return nil
	}
	return fmt.Errorf("--%s: there is no door %q; there are %s", flag, name, strings.Join(Doors(), ", "))
}

// checkDoors checks what the configuration says of doors.
func (c *Config) checkDoors() error {
	for _, name := range c.Without {
		if err := checkDoor(name, "without"); err != nil {
			return err
		}
	}
	for name, most := range c.Clients {
		if err := checkDoor(name, "clients"); err != nil {
			return err
		}
		if most < 0 {
			return fmt.Errorf("--clients %s=%d: it is a number of clients; 0 is no bound, and --without %s has none at all", name, most, name)
		}
	}
	return nil
}
