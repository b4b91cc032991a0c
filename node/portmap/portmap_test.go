package portmap

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// router is one in memory.
type router struct {
	mu      sync.Mutex
	gone    bool // it answers nothing
	taken   map[uint16]bool
	life    time.Duration
	now     map[Port]uint16
	added   []time.Duration // when, since start
	removed int
	finds   int
	start   time.Time
	gateway Gateway
}

var errGone = errors.New("no answer")

func (r *router) find(context.Context, Gateway) (client, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.finds++
	if r.gone {
		return nil, errGone
	}
	return r, nil
}

func (r *router) name() string { return "fake" }

func (r *router) address(context.Context) (netip.Addr, error) {
	return netip.MustParseAddr("8.1.1.1"), nil
}

func (r *router) add(_ context.Context, p Port, external uint16) (uint16, time.Duration, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone {
		return 0, 0, errGone
	}
	for r.taken[external] {
		external++
	}
	r.now[p] = external
	r.added = append(r.added, time.Since(r.start))
	return external, r.life, nil
}

func (r *router) remove(ctx context.Context, m Mapping) error {
	r.mu.Lock()
	gone := r.gone
	r.mu.Unlock()
	if gone {
		<-ctx.Done()
		return errGone
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.now[m.Port] == m.External {
		delete(r.now, m.Port)
		r.removed++
	}
	return nil
}

// count is how often it was looked for.
func (r *router) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.finds
}

func (r *router) set(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

var gate = Gateway{netip.MustParseAddr("192.168.1.1"), netip.MustParseAddr("192.168.1.2")}

// play runs a Mapper of some ports with a router in memory, and ends it.
func play(t *testing.T, ports []Port, f func(r *router, m *Mapper, end func() time.Duration)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &router{taken: make(map[uint16]bool), life: lifetime, now: make(map[Port]uint16), start: time.Now(), gateway: gate}
		m := New(Config{Ports: ports, Gateway: func() (Gateway, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.gateway, nil
		}})
		m.protocols = []protocol{{"other", func(context.Context, Gateway) (client, error) { return nil, errGone }}, {"fake", r.find}}
		ctx, cancel := context.WithCancel(t.Context())
		var done sync.WaitGroup
		done.Go(func() { _ = m.Serve(ctx) })
		end := func() time.Duration {
			start := time.Now()
			cancel()
			done.Wait()
			return time.Since(start)
		}
		defer end()
		f(r, m, end)
	})
}

func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

var somePorts = []Port{{TCP: true, Number: 8787}, {Number: 3478}, {TCP: true, Number: 3478}, {Number: 50000, Exact: true}}

// TestMapper: ports are mapped, renewed at half of their time, and taken back.
func TestMapper(t *testing.T) {
	play(t, somePorts, func(r *router, m *Mapper, end func() time.Duration) {
		r.set(func() { r.taken[3478], r.taken[50000] = true, true })
		after(time.Second)
		want := []Mapping{{somePorts[0], 8787}, {somePorts[1], 3479}, {somePorts[2], 3479}}
		if s := m.State(); s.Protocol != "fake" || !slices.Equal(s.Mappings, want) || s.Address.String() != "8.1.1.1" {
			t.Errorf("%+v, want %v", s, want)
		}
		if len(r.now) != 3 {
			t.Errorf("the router has %v: a port of another number is kept", r.now)
		}
		r.set(func() { delete(r.taken, 3478) })
		after(lifetime/2 + time.Second)
		if s := m.State(); !slices.Equal(s.Mappings, want) || len(r.added) != 8 || r.added[4] != lifetime/2 {
			t.Errorf("renewed at %v: %+v, want what there was", r.added, s)
		}
		if took := end(); took != 0 || len(r.now) != 0 {
			t.Errorf("%v are left after %v", r.now, took)
		}
	})
}

// TestMapperFails: a router that is gone is looked for again, less and less; when
// it is back the ports are mapped anew, and one that is gone in the end is not
// waited for long.
func TestMapperFails(t *testing.T) {
	play(t, somePorts, func(r *router, m *Mapper, end func() time.Duration) {
		after(time.Second)
		r.set(func() { r.gone, r.now = true, make(map[Port]uint16) })
		after(lifetime)
		if s := m.State(); s.Protocol != "" || len(s.Mappings) != 0 {
			t.Errorf("mapped by nobody: %+v", s)
		}
		finds := r.count()
		after(3 * time.Hour)
		if n := r.count() - finds; n < 15 || n > 20 {
			t.Errorf("looked for %d times in 3 hours", n)
		}
		r.set(func() { r.gone = false })
		after(retryMost + time.Second)
		if s := m.State(); len(s.Mappings) != len(somePorts) || len(r.now) != len(somePorts) {
			t.Errorf("not mapped anew: %+v", s)
		}
		r.set(func() { r.gone = true })
		if took := end(); took > endTime {
			t.Errorf("the end took %v", took)
		}
	})
}

// TestMapperHurried: a router that gives ports for a second is not asked each
// second.
func TestMapperHurried(t *testing.T) {
	play(t, somePorts[:1], func(r *router, _ *Mapper, _ func() time.Duration) {
		r.set(func() { r.life = time.Second })
		after(time.Hour)
		if n := len(r.added); n < 30 || n > 62 {
			t.Errorf("asked %d times in an hour", n)
		}
	})
}

// TestMapperMoves: in another network another router is asked, soon.
func TestMapperMoves(t *testing.T) {
	play(t, somePorts[:1], func(r *router, _ *Mapper, _ func() time.Duration) {
		after(time.Second)
		r.set(func() { r.gateway.Router = netip.MustParseAddr("10.0.0.1") })
		after(look + time.Second)
		if r.finds != 2 || len(r.added) != 2 {
			t.Errorf("looked for %d times, asked %d times", r.finds, len(r.added))
		}
	})
}
