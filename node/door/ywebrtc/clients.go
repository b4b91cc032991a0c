package ywebrtc

import (
	"slices"
	"sync"

	"github.com/peerservers/peerserver/node/door/topics"
	"github.com/peerservers/peerserver/protocol"
)

// clients knows which subscriptions to one topic are of one client, so that
// only the newest of them is a member: a client that is told everything twice
// connects to nobody. It is never locked by what the relay calls.
type clients struct {
	mu sync.Mutex
	m  map[client][]*topics.Subscription // newest last; that one is the member
}

type client struct {
	app protocol.AppID
	id  string
}

func newClients() clients { return clients{m: make(map[client][]*topics.Subscription)} }

// name says whose a subscription is. The first name stays.
func (c *clients) name(s *topics.Subscription, id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.ID[0] != named && s.Rename(id) == nil {
		k := client{s.App, id}
		c.m[k] = append(c.m[k], s)
	}
}

// leave ends a subscription. If it was its client's newest, the one before it
// becomes the member again.
func (c *clients) leave(s *topics.Subscription) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := client{s.App, s.ID}
	list := c.m[k]
	i := slices.Index(list, s)
	if list = slices.DeleteFunc(list, func(o *topics.Subscription) bool { return o == s }); len(list) > 0 {
		c.m[k] = list
		if i < len(list) {
			return // a newer one is the member
		}
		older := list[len(list)-1]
		if older.Join() == nil {
			return // in the place of s
		}
		older.Close()
	} else {
		delete(c.m, k)
	}
	s.Leave()
}
