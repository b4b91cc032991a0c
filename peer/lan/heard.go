package lan

import (
	"net/netip"
	"time"

	"golang.org/x/time/rate"

	"github.com/peerservers/peerserver/protocol"
)

// What is taken from others. A signature costs some 50 microseconds.
const (
	perSource      = 20 // beacons a second of one address: several programs may share it
	perSourceBurst = 40
	inAll          = 200 // a second
	inAllBurst     = 400
	maxSources     = 512
	maxOfSource    = 16 // that are remembered of one address
)

// Heard is somebody on the LAN: what a beacon says and where it came from.
type Heard struct {
	protocol.Announcement
	From      netip.Addr // with a zone where it is link-local
	Interface int        // index of the interface that it is near
	New       bool       // it was not known, or it was and had expired
}

// place is where a beacon comes from. One key may be at several: two programs,
// or two interfaces.
type place struct {
	key  [32]byte
	from netip.Addr
	port uint16
}

type entry struct {
	heard Heard
	until time.Time
}

// table remembers whose beacons were heard. Its user guards it.
type table struct {
	all     map[place]*entry           // at most protocol.MaxBeacons
	sources map[netip.Addr]*sourceRate // at most maxSources
	rate    *rate.Limiter
}

type sourceRate struct {
	*rate.Limiter
	last time.Time
}

func newTable() *table {
	return &table{
		all: make(map[place]*entry), sources: make(map[netip.Addr]*sourceRate), rate: rate.NewLimiter(inAll, inAllBurst),
	}
}

// allows says whether one more datagram of a source is looked at.
func (t *table) allows(from netip.Addr, now time.Time) bool {
	s := t.sources[from]
	if s == nil {
		if len(t.sources) >= maxSources {
			for a, old := range t.sources {
				if now.Sub(old.last) > perSourceBurst*time.Second/perSource {
					delete(t.sources, a) // its bucket is full again
				}
			}
		}
		if len(t.sources) >= maxSources {
			return false
		}
		s = &sourceRate{Limiter: rate.NewLimiter(perSource, perSourceBurst)}
		t.sources[from] = s
	}
	s.last = now
	return s.AllowN(now, 1) && t.rate.AllowN(now, 1)
}

// put remembers a beacon. It reports false when there is no room for it.
func (t *table) put(h *Heard, now time.Time) bool {
	at := place{h.Key, h.From, h.Port}
	e := t.all[at]
	h.New = e == nil
	if h.New {
		ofSource := 0
		for p := range t.all {
			if p.from == h.From {
				ofSource++
			}
		}
		if ofSource >= maxOfSource || len(t.all) >= protocol.MaxBeacons {
			return false
		}
		e = new(entry)
		t.all[at] = e
	}
	e.heard, e.until = *h, now.Add(protocol.BeaconLost)
	return true
}

// expire forgets those of whom nothing was heard for long, and returns them.
func (t *table) expire(now time.Time) (gone []Heard) {
	for at, e := range t.all {
		if !now.Before(e.until) {
			delete(t.all, at)
			gone = append(gone, e.heard)
		}
	}
	return gone
}
