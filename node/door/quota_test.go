package door

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// Who closes each connection before the next has the quota of one address all
// the same, and is forgotten when it would be full again.
func TestQuotaOfOneConnectionAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := Quota{}.withDefaults()
		a := addresses{quota: q, m: make(map[netip.Addr]*address)}
		ip := netip.MustParseAddr
		spent := 0
		for range 10_000 {
			e, _ := a.open(ip("192.0.2.1"))
			if e.chargeMessages(time.Now().UnixNano(), 20, &q) == 0 {
				spent += 20
			}
			a.close(e)
		}
		if spent > q.AddressMessageBurst || spent == 0 {
			t.Errorf("%d messages in no time, of %d", spent, q.AddressMessageBurst)
		}
		quiet, _ := a.open(ip("192.0.2.2"))
		a.close(quiet)
		if len(a.m) != 1 || len(a.left) != 1 {
			t.Errorf("%d addresses, %d of them have gone", len(a.m), len(a.left))
		}
		e, _ := a.open(ip("192.0.2.1"))
		e.addMembers(1, &q)
		a.close(e)
		time.Sleep(time.Minute)
		other, _ := a.open(ip("192.0.2.3"))
		if len(a.m) != 2 || len(a.left) != 0 {
			t.Errorf("%d addresses, %d of them have gone, when one has a member", len(a.m), len(a.left))
		}
		e.addMembers(-1, &q)
		a.tidy(e)
		a.close(other)
		if len(a.m) != 0 {
			t.Errorf("%d addresses stay", len(a.m))
		}
	})
}
