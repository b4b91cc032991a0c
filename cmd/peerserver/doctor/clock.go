package doctor

import (
	"context"
	"net"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

const (
	clockOff   = 30 * time.Second // what NTP would never leave
	askedNodes = 5                // whose clocks are looked at
)

// now is the time as well as it is known while the others have not been asked.
func (s *subject) now() time.Time { return time.Now() }

// ahead is by how much the node's clock is ahead of this machine's: as the node
// says itself, or as the Date of its answers does, which may be a proxy's.
func (s *subject) ahead(ctx context.Context) (time.Duration, bool) {
	if s.seen != nil {
		return time.UnixMilli(s.seen.Time).Sub(s.seen.asked), true
	}
	return dateAhead(ctx, s.client, s.base.String()+"/health")
}

// dateAhead is what the Date header of an answer says, which has whole seconds.
func dateAhead(ctx context.Context, client *http.Client, at string) (time.Duration, bool) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return 0, false
	}
	began := time.Now()
	answer, err := client.Do(q)
	if err != nil {
		return 0, false
	}
	answer.Body.Close()
	date, err := http.ParseTime(answer.Header.Get("Date"))
	if err != nil {
		return 0, false
	}
	return date.Add(time.Second / 2).Sub(began.Add(time.Since(began) / 2)), true
}

// checkClock compares the clock of the node with that of this machine, and both
// with those of other nodes.
func (s *subject) checkClock(ctx context.Context) []Finding {
	node, known := s.ahead(ctx)
	if !known {
		return one(bad(SeenNone, "The node does not say what its clock shows."))
	}
	others := s.others(ctx)
	if len(others) == 0 {
		return one(judged(node, "this machine's"))
	}
	slices.Sort(others)
	right := others[len(others)/2]
	found := one(judged(node-right, "those of other nodes"))
	if here := max(right, -right); here > clockOff {
		found = append(found, bad(ClockHere, "The clock of this machine is %s %s those of other nodes.", length(here), side(-right)))
	}
	return found
}

// judged is the finding on a clock that is ahead of another by so much.
func judged(ahead time.Duration, of string) Finding {
	off := max(ahead, -ahead)
	switch {
	case off > protocol.ICEAhead:
		return bad(ClockWrong, "The clock of the node is %s %s %s.", length(off), side(ahead), of)
	case off > clockOff:
		return bad(ClockOff, "The clock of the node is %s %s %s.", length(off), side(ahead), of)
	}
	return ok("The clock of the node is as %s.", of)
}

func side(ahead time.Duration) string {
	if ahead > 0 {
		return "ahead of"
	}
	return "behind"
}

// others are by how much the clocks of some other nodes are ahead of this
// machine's. Their URLs come from strangers.
func (s *subject) others(ctx context.Context) (ahead []time.Duration) {
	m, err := s.login()
	if err != nil {
		return nil
	}
	client := &http.Client{
		Timeout: stepWithin / 2, CheckRedirect: noRedirect,
		Transport: &http.Transport{DialContext: (&net.Dialer{Control: s.polite}).DialContext, DisableKeepAlives: true},
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, at := range m.others[:min(len(m.others), askedNodes)] {
		all.Go(func() {
			if d, ok := dateAhead(ctx, client, at+"/health"); ok {
				mu.Lock()
				defer mu.Unlock()
				ahead = append(ahead, d)
			}
		})
	}
	all.Wait()
	return ahead
}

// polite keeps strangers' URLs from reaching into the network that doctor runs
// on, unless the node that named them is in it itself.
func (s *subject) polite(network, address string, _ syscall.RawConn) error {
	to, err := addrPort(address)
	if err == nil && (s.near || protocol.Public(to.Addr().Unmap())) {
		return nil
	}
	return protocol.Errorf(protocol.CodeRefused, "dial %s: not a public address", network)
}
