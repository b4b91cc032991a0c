package native_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/node/door/native"
	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/relay"
	"github.com/peerservers/peerserver/testnet"
)

func (c *client) askICE() *protocol.ToPeer {
	c.t.Helper()
	return c.ask(&protocol.ToNode{Body: &protocol.ToNode_AskIce{AskIce: &protocol.AskIce{}}})
}

// credentials are those that an answer gives, which have to be this peer's.
func (c *client) credentials(s *protocol.IceServers, number int) {
	c.t.Helper()
	peer := c.member().Peer
	if want := fmt.Sprintf("%d:%x", number, peer[:]); len(s.GetServers()) != 2 || s.Ttl != 3600 || s.Servers[1].Username != want {
		c.t.Errorf("the servers are %v, want a user %s", s, want)
	}
}

// A peer is told of servers when it joins, when it asks, and when it comes back
// to a membership that was kept: each time of new credentials, its own.
func TestICE(t *testing.T) {
	t.Parallel()
	a := startAlone(t, door.Quota{}, relay.Config{}, 0)
	c := dial(t, a.url, 1)
	if m := c.askICE(); protocol.Code(m.GetRefused().GetCode()) != protocol.CodeDenied {
		t.Fatalf("without a login: %v", m)
	}
	if a.asked.Load() > 0 {
		t.Error("servers were made for nobody")
	}
	if c.login().GetWelcome() == nil {
		t.Fatal("not welcome")
	}
	c.credentials(c.join(chess).GetJoined().GetIce(), 1)
	c.credentials(c.askICE().GetIceServers(), 2)
	c.breaks()
	for end := time.Now().Add(25 * time.Second); a.door.Stats().(native.Stats).Kept == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the membership is not kept")
		}
	}
	n := c.again(a.url)
	j := n.join(chess).GetJoined()
	if !j.GetResumed() {
		t.Fatalf("not resumed: %v", j)
	}
	n.credentials(j.GetIce(), 3)
}

// A node without servers says so: the answer is empty, and no failure.
func TestNoICE(t *testing.T) {
	t.Parallel()
	c := enters(t, testnet.Start(t, 1).URL(0), 1, chess)
	if m := c.askICE(); m.GetIceServers() == nil {
		t.Errorf("answer %v", m)
	}
}

// Who asks all the time is refused, is told when to ask again, and is answered
// then.
func TestICEIsCharged(t *testing.T) {
	t.Parallel()
	a := startAlone(t, door.Quota{}, relay.Config{}, 0)
	c := enters(t, a.url, 1, chess)
	began, answered := time.Now(), 0
	for {
		m := c.askICE()
		if m.GetIceServers() != nil {
			answered++
			continue
		}
		r := m.GetRefused()
		if protocol.Code(r.GetCode()) != protocol.CodeRate || r.GetRetryAfter() == 0 {
			t.Fatalf("answer %v", m)
		}
		time.Sleep(time.Duration(r.RetryAfter) * time.Millisecond)
		if m = c.askICE(); m.GetIceServers() == nil {
			t.Errorf("after %d ms: %v", r.RetryAfter, m)
		}
		break
	}
	// Of half a burst of 2,000 messages, 11 are a request; 100 a second come anew.
	if most := (1000 + int(100*time.Since(began).Seconds())) / 10; answered > most || answered < 50 {
		t.Errorf("%d were answered, of at most %d", answered, most)
	}
}
