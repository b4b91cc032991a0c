package node

import (
	"slices"
	"testing"
	"time"

	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/relay"
)

// TestNearest gives the servers of two linked nodes, chosen by delay and load.
func TestNearest(t *testing.T) {
	linked := func(host string, rtt time.Duration, stun, turn uint16, load int) relay.Neighbour {
		return relay.Neighbour{RTT: rtt, Record: &protocol.Record{URLs: []string{"wss://" + host}, STUNPort: stun, TURNPort: turn, Load: load}}
	}
	const ms = time.Millisecond
	for _, c := range []struct {
		name   string
		linked []relay.Neighbour
		want   []string
	}{
		{"none", nil, nil},
		{"one that cannot be dialled, and one without STUN", []relay.Neighbour{{RTT: ms}, linked("a", ms, 0, 0, 0)}, nil},
		{"by delay", []relay.Neighbour{linked("far", 90*ms, 1, 1, 0), linked("near", 5*ms, 1, 1, 0), linked("middle", 40*ms, 1, 1, 0)}, []string{"near", "middle"}},
		{"by load too", []relay.Neighbour{linked("near.full", 5*ms, 1, 1, 3), linked("far", 90*ms, 1, 1, 0), linked("middle", 40*ms, 1, 1, 0)}, []string{"middle", "far"}},
		{"TURN before none", []relay.Neighbour{linked("bare", 5*ms, 1, 0, 0), linked("far", 90*ms, 1, 1, 0), linked("farther", 95*ms, 1, 1, 1)}, []string{"far", "farther"}},
		{"measured before not", []relay.Neighbour{linked("new", 0, 1, 1, 0), linked("far", 300*ms, 1, 1, 0)}, []string{"far", "new"}},
	} {
		var got []string
		for _, o := range nearest(c.linked) {
			got = append(got, o.host)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, not %v", c.name, got, c.want)
		}
	}
}

// TestServerURLs are the URLs of one node, in the order in which they are good, and
// none of TURN for who has no credentials.
func TestServerURLs(t *testing.T) {
	s := servers{host: "2001:db8::1", stun: 3478, turn: 3478, tls: []uint16{443, 5349}}
	if list := s.appendTo(nil); len(list) != 1 || !slices.Equal(list[0].Urls, []string{"stun:[2001:db8::1]:3478"}) {
		t.Errorf("without credentials: %v", list)
	}
	s.user, s.password = "user", "password"
	list := s.appendTo(nil)
	want := []string{
		"turn:[2001:db8::1]:3478?transport=udp", "turn:[2001:db8::1]:3478?transport=tcp",
		"turns:[2001:db8::1]:443?transport=tcp", "turns:[2001:db8::1]:5349?transport=tcp",
	}
	if len(list) != 2 || !slices.Equal(list[1].Urls, want) || list[1].Username != "user" || list[1].Credential != "password" {
		t.Errorf("with credentials: %v", list)
	}
}
