package door

import (
	"net/netip"
	"testing"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// A member that outlives its connection counts for its address until it ends,
// also when the address has no connection any more.
func TestSeat(t *testing.T) {
	s := serve(t, Config{Quota: Quota{Members: 5, AddressMembers: 3}}, overFront)
	var seats []Seat
	for range 3 {
		ws := s.dial()
		c := s.session().c
		if !c.TakeMember() {
			t.Fatal("a member is refused")
		}
		seats = append(seats, c.Unseat())
		ws.Close()
	}
	eventually(t, func() bool { return s.host.Stats().Clients == 0 }, "the connections stay")
	s.dial()
	c := s.session().c
	if c.TakeMember() {
		t.Error("an address has forgotten its members")
	}
	if !c.TakeSeat(seats[0]) || c.TakeMember() {
		t.Error("a seat that was taken counts twice, or no more")
	}
	seats[1].Free()
	if !c.TakeMember() || c.TakeMember() {
		t.Error("a seat that was freed still counts, or counts twice")
	}
}

// How long to wait counts the message that is sent again too, and who is
// refused can still send others.
func TestChargeSaysWhen(t *testing.T) {
	q := Quota{Messages: 10, MessageBurst: 200}.withDefaults()
	h := &Host{}
	h.cfg.Quota = q
	c := &Conn{host: h, slot: &address{}}
	for c.Charge(30) == 0 {
	}
	wait := c.Charge(30)
	if wait <= 0 || wait > 3100*time.Millisecond {
		t.Fatalf("wait %v", wait)
	}
	later := time.Now().Add(wait).UnixNano()
	again := c.messages
	if again.take(later, 1, q.Messages, q.MessageBurst); again.charge(later, 30, q.Messages, q.MessageBurst) != 0 {
		t.Error("it was wrong")
	}
	for i := range q.MessageBurst / 2 {
		if !c.countMessage(time.Now().UnixNano()) {
			t.Fatalf("message %d is one too many", i)
		}
	}
	if c = (&Conn{host: h, slot: &address{}}); c.Charge(1000) != 0 {
		t.Error("what costs more than a burst is never taken")
	}
}

// An address is forgotten when it has neither connections nor members.
func TestAddressIsForgotten(t *testing.T) {
	q := Quota{}.withDefaults()
	h := &Host{addresses: addresses{quota: q, m: make(map[netip.Addr]*address)}}
	h.cfg.Quota = q
	for _, memberFirst := range []bool{true, false} {
		slot, ok := h.addresses.open(netip.MustParseAddr("192.0.2.1"))
		if !ok {
			t.Fatal("refused")
		}
		c := &Conn{host: h, slot: slot}
		if !c.TakeMember() {
			t.Fatal("refused")
		}
		if memberFirst {
			c.DropMember()
			h.addresses.close(slot)
		} else {
			h.addresses.close(slot)
			if len(h.addresses.m) != 1 {
				t.Error("an address with a member is forgotten")
			}
			c.DropMember()
		}
		if len(h.addresses.m) != 0 {
			t.Errorf("an address is remembered; member first: %v", memberFirst)
		}
	}
}

// How long to wait is said rightly: a moment earlier it is too early.
func TestBucketSaysWhen(t *testing.T) {
	var b bucket
	now := int64(time.Hour)
	for range 10 {
		if wait := b.lacks(now, 1, 5, 10); wait != 0 {
			t.Fatal(wait)
		}
	}
	wait := b.lacks(now, 3, 5, 10)
	if wait != 600*time.Millisecond {
		t.Errorf("wait %v", wait)
	}
	if b.lacks(now+int64(wait)-1, 3, 5, 10) == 0 || b.lacks(now+int64(wait), 3, 5, 10) != 0 {
		t.Error("it was wrong")
	}
}

// Relayed data has a quota of its own, for every client: that of an address is
// for many peers.
func TestChargeData(t *testing.T) {
	h := &Host{}
	slot := &address{}
	for i := range dataPeers + 2 {
		c, sent := &Conn{host: h, slot: slot}, 0
		for c.ChargeData(1<<10, 64<<10) == 0 {
			sent += 1 << 10
		}
		want := 128 << 10
		if i >= dataPeers {
			want = 0
		}
		if sent < want || sent > want+16<<10 {
			t.Errorf("client %d sent %d at once", i, sent)
		}
	}
	alone := &Conn{host: h}
	if wait := alone.ChargeData(protocol.MaxPayload, 1000); wait != 0 {
		t.Errorf("with a low rate a large message has to wait %v", wait)
	}
	if wait := alone.ChargeData(1000, 1000); wait < 900*time.Millisecond || wait > time.Second {
		t.Errorf("then wait %v", wait)
	}
}

// What is known to be lost with a connection is what was not written when it
// was ended, and not the close frame.
func TestBehind(t *testing.T) {
	for name, q := range map[string]struct {
		queued int
		end    func(c *Conn)
		want   bool
	}{
		"closed, all written":      {0, func(c *Conn) { c.Close(1000, "") }, false},
		"closed, something queued": {1, func(c *Conn) { c.Close(1000, "") }, true},
		"broken, all written":      {0, func(*Conn) {}, false},
		"broken, something queued": {1, func(*Conn) {}, true},
		"killed, something queued": {1, func(c *Conn) { c.kill() }, true},
		"too slow":                 {1 << 12, func(*Conn) {}, true},
		"slow, being written":      {-1, func(*Conn) {}, true},
	} {
		s := serve(t, Config{Queue: 1 << 10}, overFront)
		s.dial()
		c := s.session().c
		c.mu.Lock()
		c.writing, c.slow = true, true // no flusher takes it
		if q.queued < 0 {
			c.inFlight = 1
		}
		c.mu.Unlock()
		if q.queued > 0 {
			if b, ok := c.Begin(); ok {
				c.End(append(b, make([]byte, q.queued)...), Reply)
			}
		}
		q.end(c)
		if got := c.Behind(); got != q.want {
			t.Errorf("%s: %v", name, got)
		}
		c.kill()
	}
}
