package relay

import (
	"bytes"
	"slices"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// LinkInfo is what is known of the link to one other node. It is for the
// operator alone: it shows which nodes this one works with.
type LinkInfo struct {
	Node     protocol.NodeID
	URLs     []string      // of its record; empty when it cannot be dialled
	Up       bool          // connected, and both sides have compared what they remember
	Dialled  bool          // the last connection was dialled by this node
	Since    time.Duration // connected, or disconnected, for this long
	Draining bool          // the other node said goodbye
	Apps     int           // that both nodes serve
	Waiting  int           // frames not yet acknowledged
	Bytes    int           // and their size
}

// AppInfo is what is known of one app. Only hashes of apps are known to a
// node, but even these are not for the public.
type AppInfo struct {
	App         protocol.AppID
	Members     int // on this node
	Seeders     int
	Subscribers int
	Elsewhere   int // members of other nodes, as far as their counts are believed
	Nodes       int // linked ones that serve the app too
}

// Links are the links of the moment and those that may come back, in the order
// of their nodes.
func (r *Relay) Links() []LinkInfo {
	r.mu.Lock()
	links := r.allLinks()
	r.mu.Unlock()
	all := make([]LinkInfo, 0, len(links))
	now := r.now()
	for _, l := range links {
		all = append(all, l.info(now))
	}
	slices.SortFunc(all, func(a, b LinkInfo) int { return bytes.Compare(a.Node[:], b.Node[:]) })
	return all
}

func (l *link) info(now instant) LinkInfo {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := LinkInfo{
		Node: l.node, URLs: []string{}, Dialled: l.chosen, Since: time.Duration(now - l.downAt), Draining: now < l.drainUntil,
		Apps: len(l.remotes), Waiting: len(l.out) + len(l.data), Bytes: l.bytes + l.waiting,
	}
	if l.record != nil {
		i.URLs = slices.Clone(l.record.URLs)
	}
	if l.w != nil {
		i.Up, i.Dialled, i.Since = l.w.resumed, l.w.dialed, time.Duration(now-l.w.since)
	}
	return i
}

// Apps are the apps that have members here, those with the most first.
func (r *Relay) Apps() []AppInfo {
	swarms := r.allSwarms()
	all := make([]AppInfo, 0, len(swarms))
	for _, s := range swarms {
		if i := s.info(); i.Members > 0 {
			all = append(all, i)
		}
	}
	slices.SortFunc(all, func(a, b AppInfo) int {
		if a.Members != b.Members {
			return b.Members - a.Members
		}
		return bytes.Compare(a.App[:], b.App[:])
	})
	return all
}

func (s *swarm) info() AppInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := AppInfo{App: s.app, Members: len(s.members), Seeders: s.seeders, Subscribers: s.subs, Nodes: len(s.remotes)}
	for h := range s.elsewhere {
		if s.findHash(h) == nil {
			i.Elsewhere++
		}
	}
	for _, rem := range s.remotes {
		if !rem.listed {
			i.Elsewhere += rem.believed()
		}
	}
	return i
}

// Records are those of nodes that are linked now, at most n, in random order.
func (r *Relay) Records(n int) []*protocol.SignedRecord {
	r.mu.Lock()
	links := r.allLinks() // in the order of a map
	r.mu.Unlock()
	var list []*protocol.SignedRecord
	for _, l := range links {
		l.mu.Lock()
		if len(list) < n && l.record != nil && l.w != nil && l.w.resumed {
			list = append(list, l.record.Signed)
		}
		l.mu.Unlock()
	}
	return list
}
