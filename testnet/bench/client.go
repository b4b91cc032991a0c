package bench

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
)

// client is one connection. It is a member of one swarm or of many, under one
// peer id.
type client struct {
	// Static after connect.
	r      *run
	index  int
	peer   []byte // its id as JSON
	swarms []int
	own    int // the swarm to which it offers
	nc     net.Conn

	// Owned by the reader.
	in   frames
	m    message
	room []byte

	writing sync.Mutex
	out     []byte
	rnd     *rand.PCG

	ledger ledger

	replies atomic.Int64  // that came
	replied chan struct{} // a reply has come
	members atomic.Int64  // of the swarm, as the last reply says
}

func (r *run) newClient(i int, nc net.Conn) *client {
	peer := r.names.peerID(i)
	return &client{
		r: r, index: i, peer: appendID(nil, &peer), swarms: r.layout.swarmsOf(i), own: r.layout.own(i), nc: nc,
		in: frames{c: nc, buf: make([]byte, readBuffer)}, rnd: rand.NewPCG(r.names.seed, uint64(i)), replied: make(chan struct{}, 1),
	}
}

// readBuffer is for several offers at once.
const readBuffer = 8 << 10

// read handles what the server sends until the connection ends.
func (c *client) read() {
	for {
		if err := c.in.fill(); err != nil {
			c.ended(err)
			return
		}
		now := c.r.now()
		for {
			opcode, b, ok, err := c.in.next()
			if err != nil {
				c.ended(err)
				c.nc.Close()
				return
			}
			if !ok {
				break
			}
			if !c.frame(opcode, b, now) {
				return
			}
		}
	}
}

func (c *client) frame(opcode byte, b []byte, now int64) bool {
	switch opcode {
	case opText:
		c.message(b, now)
	case opPing:
		c.send(opPong, func(out []byte) []byte { return append(out, b...) })
	case opClose:
		code := 0
		if len(b) >= 2 {
			code = int(binary.BigEndian.Uint16(b))
			b = b[2:]
		}
		c.ended(fmt.Errorf("the server closes with code %d: %.100q", code, b))
		c.nc.Close()
		return false
	}
	return true
}

func (c *client) ended(err error) {
	if c.r.ending.Load() {
		return
	}
	c.r.totals.closed.Add(1)
	c.r.complain(err)
}

// send sends one frame.
func (c *client) send(opcode byte, write func([]byte) []byte) {
	c.writing.Lock()
	defer c.writing.Unlock()
	if cap(c.out) < room {
		c.out = make([]byte, room, 2<<10)
	}
	c.out = write(c.out[:room])
	// An error here is one of the reader too.
	_, _ = c.nc.Write(finish(c.out, opcode, uint32(c.rnd.Uint64())))
}

// announce offers to members of its own swarm, at the time it is due. Unless
// it must, it does not while it waits for answers, and says so.
func (c *client) announce(due int64, must bool) bool {
	r, n := c.r, c.r.cfg.Offers
	seq, ok := c.ledger.add(n, due, must, &r.totals)
	if !ok {
		return false
	}
	r.totals.offers.Add(uint64(n))
	r.totals.announces.Add(1)
	c.send(opText, func(b []byte) []byte {
		b = appendAnnounce(b, r.swarms[c.own].json, c.peer, "", n)
		for i := range uint32(n) {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, `{"offer":`...)
			b = r.names.append(b, payload{'o', c.index, c.index, seq + i})
			b = append(b, `,"offer_id":`...)
			o := r.names.offerID(c.index, seq+i)
			b = appendID(b, &o)
			b = append(b, '}')
		}
		return append(b, "]}"...)
	})
	return true
}

// join announces without offers.
func (c *client) join(swarm int, event string) {
	c.r.totals.announces.Add(1)
	c.send(opText, func(b []byte) []byte {
		return append(appendAnnounce(b, c.r.swarms[swarm].json, c.peer, event, 0), "]}"...)
	})
}

// message handles what a tracker sends.
func (c *client) message(b []byte, now int64) {
	r, m := c.r, &c.m
	switch {
	case !m.scan(b):
		r.totals.changed.Add(1)
	case m.failure != nil:
		r.totals.refused.Add(1)
		r.complain(fmt.Errorf("the server refuses a message: %.100s", m.failure))
	case m.offer != nil:
		c.offered(now)
	case m.answer != nil:
		c.answered(now)
	case string(m.action) == `"announce"`:
		c.reply()
	}
}

func (c *client) reply() {
	c.r.totals.replies.Add(1)
	complete, _ := strconv.Atoi(string(c.m.complete))
	incomplete, _ := strconv.Atoi(string(c.m.incomplete))
	c.members.Store(int64(complete + incomplete))
	c.replies.Add(1)
	select {
	case c.replied <- struct{}{}:
	default:
	}
}

// parties reads who an offer is from, which it is, and who made this message
// of it, and says whether they belong together.
func (c *client) parties() (from *client, seq uint32, by *client, ok bool) {
	r, m := c.r, &c.m
	var offer, peer, hash id
	if !offer.read(m.offerID) || !peer.read(m.peerID) || !hash.read(m.infoHash) {
		return nil, 0, nil, false
	}
	f, seq, ok := r.names.parseOffer(&offer)
	p, known := r.names.parsePeer(&peer)
	if !ok || !known || f >= len(r.clients) || p >= len(r.clients) {
		return nil, 0, nil, false
	}
	from, by = r.clients[f], r.clients[p]
	return from, seq, by, r.swarms[from.own].hash == hash
}

// offered handles an offer: it is checked and answered.
func (c *client) offered(now int64) {
	r := c.r
	from, seq, by, ok := c.parties()
	if !ok || by != from || !r.names.is(c.m.offer, payload{'o', from.index, from.index, seq}, &c.room) {
		r.totals.changed.Add(1)
		return
	}
	if from == c || !r.layout.member(c.index, from.own) {
		r.totals.misrouted.Add(1)
		return
	}
	due, v := from.ledger.deliver(seq, c.index, r.cfg.Offers, r.now(), r.small)
	switch v {
	case fine:
		if r.within(due) {
			r.offers.add(now - due)
		}
	case duplicate:
		r.totals.duplicated.Add(1)
		return // one answer is enough
	case misrouted:
		r.totals.misrouted.Add(1)
	case again:
		r.totals.again.Add(1)
	}
	c.send(opText, func(b []byte) []byte {
		b = append(b, `{"action":"announce","info_hash":`...)
		b = append(b, r.swarms[from.own].json...)
		b = append(b, `,"peer_id":`...)
		b = append(b, c.peer...)
		b = append(b, `,"to_peer_id":`...)
		b = append(b, from.peer...)
		b = append(b, `,"answer":`...)
		b = r.names.append(b, payload{'a', c.index, from.index, seq})
		b = append(b, `,"offer_id":`...)
		o := r.names.offerID(from.index, seq)
		return append(appendID(b, &o), '}')
	})
}

// answered handles an answer.
func (c *client) answered(now int64) {
	r := c.r
	from, seq, by, ok := c.parties()
	if !ok || !r.names.is(c.m.answer, payload{'a', by.index, from.index, seq}, &c.room) {
		r.totals.changed.Add(1)
		return
	}
	if from != c {
		r.totals.misrouted.Add(1)
		return
	}
	o, more, v := c.ledger.answer(seq, by.index, r.small)
	switch v {
	case fine:
	case duplicate:
		r.totals.duplicated.Add(1)
		return
	default:
		r.totals.misrouted.Add(1)
		return
	}
	r.totals.answers.Add(1)
	if r.within(o.due) {
		r.answers.add(now - o.taken)
		r.rounds.add(now - o.due)
	}
	if !more && r.closed.Load() {
		r.goOn(c)
	}
}
