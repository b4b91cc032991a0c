package door

import (
	"slices"

	"github.com/peerservers/peerserver/relay"
)

// MaxEarly is more than comes in the microseconds that a join takes.
const MaxEarly = 256

// Early keeps what a member is given before its client was told that it is one.
// The zero value is ready. Who has it locks it.
type Early struct {
	events []relay.Event // copies
	over   bool          // something is missing
	began  bool
}

// Keep keeps an event. It says not early once Begin was called, and not ok when
// there were too many.
func (y *Early) Keep(e *relay.Event) (early, ok bool) {
	switch {
	case y.began:
		return false, false
	case len(y.events) == MaxEarly:
		y.over = true
		return true, false
	}
	kept := *e
	kept.Ref, kept.Payload = slices.Clone(e.Ref), slices.Clone(e.Payload)
	y.events = append(y.events, kept)
	return true, true
}

// Begin hands on what was kept, and reports false when something is missing.
func (y *Early) Begin(take func(*relay.Event) bool) bool {
	for i := range y.events {
		take(&y.events[i])
	}
	y.began, y.events = true, nil
	return !y.over
}
