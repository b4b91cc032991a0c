package bench

import (
	"context"
	"math"
	"net"
	"sync"
	"testing"
	"time"
)

// stuckConn takes its first bytes only after a while.
type stuckConn struct {
	net.Conn
	once sync.Once
}

func (c *stuckConn) Write(b []byte) (int, error) {
	c.once.Do(func() { time.Sleep(200 * time.Millisecond) })
	return len(b), nil
}

// TestPace shows that what could not be sent in time counts from when it was
// due: the announces behind a server that does not read are not put off.
func TestPace(t *testing.T) {
	cfg := Config{URLs: []string{"ws://127.0.0.1:1"}, Rate: 1000}
	if err := cfg.complete(); err != nil {
		t.Fatal(err)
	}
	l, err := newLayout(&cfg)
	if err != nil {
		t.Fatal(err)
	}
	r := &run{cfg: cfg, names: newNames(1, cfg.Payload), layout: l, swarms: make([]swarm, l.swarms), epoch: time.Now()}
	r.to.Store(math.MaxInt64)
	r.clients = []*client{r.newClient(0, &stuckConn{}, nil)}
	ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
	defer cancel()
	var pacing sync.WaitGroup
	pacing.Go(func() { r.pace(ctx) }) // its thread ends with it
	pacing.Wait()
	list := r.clients[0].ledger.list
	if len(list) < 50*cfg.Offers {
		t.Fatalf("%d offers in 400 ms, want 400 or so", len(list))
	}
	for i, o := range list {
		if late := o.due - list[0].due - int64(i/cfg.Offers)*int64(5*time.Millisecond); late < -10 || late > 10 {
			t.Fatalf("offer %d was due %v after it should have been", i, time.Duration(late))
		}
	}
	if lag := r.lag.Latency(); lag.Max < 150 {
		t.Errorf("announces were late by %+v", lag)
	}
}
