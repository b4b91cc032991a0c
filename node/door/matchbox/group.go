package matchbox

import (
	"fmt"
	"slices"
	"sync"

	"github.com/gorilla/websocket"

	"github.com/peerservers/peerserver/protocol"
)

// groups has the groups of ?next=N that are not complete. They are of this node
// alone: with whom a client would be grouped by several nodes, each of them would
// have to know before it answers, and none can.
type groups struct {
	mu      sync.Mutex
	forming map[groupName]*group
}

// groupName is what clients ask for: one room's name with another N is another
// group. An N of 0 is never complete.
type groupName struct {
	room string
	next int
}

// group is the arrivals that are together, complete or not.
type group struct {
	// Static.
	of   *groups
	name groupName

	mu      sync.Mutex // taken while of.mu is held, or alone
	members []*session
}

func (g *groups) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.forming)
}

// enterGroup makes the client one of the next N.
func (s *session) enterGroup(name groupName) {
	if !s.d.cfg.Relay.Allows(protocol.App(Name, []byte(name.room), nil)) {
		s.refuse(protocol.Errorf(protocol.CodeDenied, "this node serves only the rooms that its operator has listed; use another node"))
		return
	}
	if name.next > MaxRoom {
		s.disconnect(websocket.ClosePolicyViolation, fmt.Sprintf("next is over %d", MaxRoom))
		return
	}
	s.d.groups.join(s, name)
}

// join puts s into the group that is forming.
func (g *groups) join(s *session, name groupName) {
	g.mu.Lock()
	defer g.mu.Unlock()
	to := g.forming[name]
	if to == nil {
		to = &group{of: g, name: name}
	}
	to.mu.Lock()
	defer to.mu.Unlock()
	if !s.admit(len(to.members)) {
		return
	}
	g.forming[name] = to
	s.tell("IdAssigned", s.id)
	for _, o := range to.members {
		o.tell("NewPeer", s.id)
	}
	to.members = append(to.members, s)
	s.in = to
	if len(to.members) == name.next {
		delete(g.forming, name)
	}
}

// leave implements room. The place of one that leaves before the group is
// complete is free again.
func (g *group) leave(s *session) {
	g.of.mu.Lock()
	defer g.of.mu.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.members = slices.DeleteFunc(g.members, func(o *session) bool { return o == s })
	for _, o := range g.members {
		o.tell("PeerLeft", s.id)
	}
	if len(g.members) == 0 && g.of.forming[g.name] == g {
		delete(g.of.forming, g.name)
	}
}

// send implements room.
func (g *group) send(from *session, to string, data []byte) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, o := range g.members {
		if o.id == to {
			return o.pass(from.id, data)
		}
	}
	return false
}
