//go:build linux

package natlab

import "sync"

type mac [6]byte

// Switch carries frames between the cables that are plugged into it, as an
// Ethernet switch does: it learns where addresses are, and gives all what is
// for an address that it does not know.
type Switch struct {
	mu     sync.Mutex
	cables map[*Cable]struct{}
	seen   map[mac]*Cable // at most maxSeen
}

// maxSeen bounds the addresses that a switch learns; a lab has some dozens.
const maxSeen = 4096

func newSwitch() *Switch {
	return &Switch{cables: make(map[*Cable]struct{}), seen: make(map[mac]*Cable)}
}

func (s *Switch) plug(c *Cable) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cables[c] = struct{}{}
}

func (s *Switch) unplug(c *Cable) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.cables, c)
	for address, at := range s.seen {
		if at == c {
			delete(s.seen, address)
		}
	}
}

// carry sends on a frame that came by a cable.
func (s *Switch) carry(from *Cable, frame []byte) {
	if len(frame) < 14 {
		return
	}
	for _, c := range s.route(from, mac(frame[0:6]), mac(frame[6:12])) {
		c.toHost(frame)
	}
}

func (s *Switch) route(from *Cable, to, source mac) []*Cable {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.cables[from]; !ok {
		return nil // it has just been unplugged
	}
	if len(s.seen) < maxSeen {
		s.seen[source] = from
	}
	if c := s.seen[to]; c != nil {
		if c == from {
			return nil
		}
		return []*Cable{c}
	}
	all := make([]*Cable, 0, len(s.cables))
	for c := range s.cables {
		if c != from {
			all = append(all, c)
		}
	}
	return all
}
