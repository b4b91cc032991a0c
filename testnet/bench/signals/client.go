package signals

import (
	"fmt"
	"net"
	"sync/atomic"

	"github.com/peerservers/peerserver/testnet/bench/gear"
)

// client is one connection: a member of one room.
type client struct {
	// Static once it is connected.
	r      *run
	index  int
	place  int    // in its room
	id     string // of PeerJS, and in the signals of y-webrtc
	topic  string
	socket *gear.Socket

	// Owned by the reader.
	m    message
	room []byte
	next []uint32 // by place: the number after the last signal from there

	member  chan struct{} // closed when it is one
	gone    chan struct{} // closed when its connection has ended
	joined  bool          // of the reader: member is closed
	reached atomic.Uint64 // members that got its probe
	ledger  ledger
}

func (r *run) newClient(i int) *client {
	room := r.cfg.Room
	name := uint32(gear.Mix(r.cfg.seed))
	c := &client{
		r: r, index: i, place: i % room,
		id: fmt.Sprintf("bench-%08x-%d", name, i), topic: fmt.Sprintf("bench-%08x-%d", name, i/room),
		next: make([]uint32, room), member: make(chan struct{}), gone: make(chan struct{}),
	}
	c.ledger.want = members(1)<<room - 1
	if room == 64 {
		c.ledger.want = ^members(0)
	}
	if !r.dialect.echoes() {
		c.ledger.want &^= 1 << c.place
	}
	return c
}

// mate is the member n places on, round and round.
func (c *client) mate(n int) *client {
	room := c.r.cfg.Room
	return c.r.clients[c.index-c.place+(c.place+n)%room]
}

// server is where a client connects.
func (c *client) server() int { return c.place % len(c.r.cfg.URLs) }

// start reads what the server sends until the connection ends.
func (c *client) start(nc net.Conn, early []byte) {
	c.socket = gear.NewSocket(nc, early, c.r.cfg.seed, uint64(c.index))
	c.r.readers.Go(func() {
		defer close(c.gone)
		if err := c.socket.Read(c.r.now, c.message); !c.r.ending.Load() {
			c.r.totals.closed.Add(1)
			c.r.complain(err)
		}
	})
}

func (c *client) send(write func([]byte) []byte) { c.socket.Send(gear.OpText, write) }

// signal sends the next signal, which was due then. It gets its number where it
// is written, so that they leave in order.
func (c *client) signal(due int64) {
	r, to := c.r, c.mate(1)
	r.totals.sent.Add(1)
	c.send(func(b []byte) []byte {
		seq := c.ledger.add(due, &r.totals)
		return r.dialect.appendSignal(b, c, to, r.payloads, gear.Payload{Kind: kindOf(seq), By: c.index, Of: to.index, Seq: seq})
	})
}

func (c *client) probe() {
	to := c.mate(1)
	c.send(func(b []byte) []byte {
		return c.r.dialect.appendSignal(b, c, to, c.r.payloads, gear.Payload{Kind: probe, By: c.index, Of: to.index})
	})
}

// message handles what a server sends.
func (c *client) message(b []byte, now int64) {
	r := c.r
	c.m = message{}
	if !gear.Scan(b, &c.m) {
		c.wrong(&r.totals.changed, "client %d got what is no message: %.200q", b)
		return
	}
	switch r.dialect.read(&c.m) {
	case ready:
		if !c.joined {
			c.joined = true
			close(c.member)
		}
	case signal:
		c.signalled(b, now)
	case refusal:
		if r.loading.Load() || !c.joined {
			c.wrong(&r.totals.refused, "client %d got %.200s", b)
		}
	}
}

func (c *client) wrong(count *atomic.Uint64, format string, b []byte) {
	count.Add(1)
	c.r.complain(fmt.Errorf(format, c.index, b))
}

// signalled handles a signal: it is checked, and in a closed loop the next one
// follows.
func (c *client) signalled(b []byte, now int64) {
	r, d := c.r, c.r.dialect
	body := d.body(&c.m)
	x, ok := gear.ParsePayload(body)
	if !ok || x.By >= len(r.clients) || x.Kind != probe && x.Kind != kindOf(x.Seq) {
		c.wrong(&r.totals.changed, "client %d got a signal that nobody sent: %.200s", b)
		return
	}
	from := r.clients[x.By]
	if from.index-from.place != c.index-c.place {
		c.wrong(&r.totals.misrouted, "client %d got a signal of another room: %.200s", b)
		return
	}
	c.room = d.appendBody(c.room[:0], from, from.mate(1), r.payloads, x)
	if string(c.room) != string(body) || !d.addressed(c, from, &c.m, x) {
		c.wrong(&r.totals.changed, "client %d got a changed signal: %.300s", b)
		return
	}
	if x.Kind == probe {
		// Whoever counts subscribers has to know all of them.
		if c.m.clients == nil || d.addressed(c, from, &c.m, gear.Payload{Kind: gear.Offer}) {
			from.reached.Or(1 << c.place)
		}
		return
	}
	c.deliver(from, x.Seq, b, now)
}

// deliver notes that a signal has come.
func (c *client) deliver(from *client, seq uint32, b []byte, now int64) {
	r := c.r
	due, v := from.ledger.deliver(seq, c.place)
	switch v {
	case duplicate:
		c.wrong(&r.totals.duplicated, "client %d got a signal twice: %.200s", b)
		return
	case misrouted:
		c.wrong(&r.totals.misrouted, "client %d got a signal that is not for it: %.200s", b)
		return
	}
	if seq < c.next[from.place] {
		c.wrong(&r.totals.disordered, "client %d got a signal behind a later one: %.200s", b)
	}
	c.next[from.place] = max(c.next[from.place], seq+1)
	if from != c && r.within(due) {
		r.latency.Add(now - due)
	}
	if v == whole {
		r.totals.relayed.Add(1)
		if r.closed.Load() {
			r.rooms[c.index/r.cfg.Room].Store(now)
			from.mate(1).signal(r.now())
		}
	}
}
