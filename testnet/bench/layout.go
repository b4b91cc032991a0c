package bench

import "fmt"

// Layout says who is in which swarm.
type Layout string

const (
	// All: every client is in one swarm, and its members are spread over the
	// servers. Of n servers, all but 1/n of the offers cross.
	All Layout = "all"
	// Cross: every client has a swarm of its own to which it offers, and whose
	// other members are clients of the next server. All offers cross.
	Cross Layout = "cross"
)

// layout is who is where.
type layout struct {
	kind    Layout
	clients int
	servers int
	size    int // of a swarm, at least
	groups  int // Cross: of clients, by turns
	swarms  int
}

func newLayout(cfg *Config) (*layout, error) {
	l := &layout{kind: cfg.Layout, clients: cfg.Clients, servers: len(cfg.URLs), size: cfg.Swarm}
	if l.size <= cfg.Offers {
		return nil, fmt.Errorf("a swarm of %d is too small for %d offers to distinct members", l.size, cfg.Offers)
	}
	if l.kind == All {
		if l.swarms = l.clients / l.size; l.swarms == 0 {
			return nil, fmt.Errorf("%d connections do not fill a swarm of %d", l.clients, l.size)
		}
		return l, nil
	}
	l.groups, l.swarms = max(2, l.servers), l.clients
	if l.clients%l.groups != 0 || l.clients/l.groups < l.size-1 {
		return nil, fmt.Errorf("%d connections on %d servers do not fill swarms of %d across them; it takes %d or more, a multiple of %d",
			l.clients, l.servers, l.size, (l.size-1)*l.groups, l.groups)
	}
	return l, nil
}

// server is where a client connects.
func (l *layout) server(client int) int {
	if l.kind == All {
		return client / l.swarms % l.servers
	}
	return client % l.groups % l.servers
}

// own is the swarm to which a client offers.
func (l *layout) own(client int) int { return client % l.swarms }

// member says whether a client is in a swarm.
func (l *layout) member(client, swarm int) bool {
	if l.kind == All {
		return client%l.swarms == swarm
	}
	if client == swarm {
		return true
	}
	group := (swarm%l.groups + 1) % l.groups
	if client%l.groups != group {
		return false
	}
	half := l.clients / l.groups
	return (client/l.groups-swarm/l.groups+half)%half < l.size-1
}

// swarmsOf lists the swarms that a client joins.
func (l *layout) swarmsOf(client int) []int {
	if l.kind == All {
		return []int{client % l.swarms}
	}
	var list []int
	for swarm := range l.swarms {
		if l.member(client, swarm) {
			list = append(list, swarm)
		}
	}
	return list
}

// sizeOf is how many members a swarm has.
func (l *layout) sizeOf(swarm int) int {
	if l.kind == All {
		return (l.clients - swarm + l.swarms - 1) / l.swarms
	}
	return l.size
}
