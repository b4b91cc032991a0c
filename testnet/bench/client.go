package bench

import (
	"fmt"
	"net"
	"strconv"
	"sync/atomic"

	"github.com/peerservers/peerserver/testnet/bench/gear"
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
	socket *gear.Socket

	// Owned by the reader.
	m    message
	room []byte

	ledger ledger

	replies atomic.Int64  // that came
	replied chan struct{} // a reply has come
	members atomic.Int64  // of the swarm, as the last reply says
}

func (r *run) newClient(i int, nc net.Conn, early []byte) *client {
	peer := r.names.peerID(i)
	return &client{
		r: r, index: i, peer: appendID(nil, &peer), swarms: r.layout.swarmsOf(i), own: r.layout.own(i),
		socket: gear.NewSocket(nc, early, r.names.seed, uint64(i)), replied: make(chan struct{}, 1),
	}
}

// read handles what the server sends until the connection ends.
func (c *client) read() {
	if err := c.socket.Read(c.r.now, c.message); !c.r.ending.Load() {
		c.r.totals.closed.Add(1)
		c.r.complain(err)
	}
}

// send sends one message.
func (c *client) send(write func([]byte) []byte) { c.socket.Send(gear.OpText, write) }

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
	c.send(func(b []byte) []byte {
		b = appendAnnounce(b, r.swarms[c.own].json, c.peer, "", n)
		for i := range uint32(n) {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, `{"offer":`...)
			b = r.names.Append(b, gear.Payload{Kind: gear.Offer, By: c.index, Of: c.index, Seq: seq + i})
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
	c.send(func(b []byte) []byte {
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
	if !ok || by != from || !r.names.Is(c.m.offer, gear.Payload{Kind: gear.Offer, By: from.index, Of: from.index, Seq: seq}, &c.room) {
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
			r.offers.Add(now - due)
		}
	case duplicate:
		r.totals.duplicated.Add(1)
		return // one answer is enough
	case misrouted:
		r.totals.misrouted.Add(1)
	case again:
		r.totals.again.Add(1)
	}
	c.send(func(b []byte) []byte {
		b = append(b, `{"action":"announce","info_hash":`...)
		b = append(b, r.swarms[from.own].json...)
		b = append(b, `,"peer_id":`...)
		b = append(b, c.peer...)
		b = append(b, `,"to_peer_id":`...)
		b = append(b, from.peer...)
		b = append(b, `,"answer":`...)
		b = r.names.Append(b, gear.Payload{Kind: gear.Answer, By: c.index, Of: from.index, Seq: seq})
		b = append(b, `,"offer_id":`...)
		o := r.names.offerID(from.index, seq)
		return append(appendID(b, &o), '}')
	})
}

// answered handles an answer.
func (c *client) answered(now int64) {
	r := c.r
	from, seq, by, ok := c.parties()
	if !ok || !r.names.Is(c.m.answer, gear.Payload{Kind: gear.Answer, By: by.index, Of: from.index, Seq: seq}, &c.room) {
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
		r.answers.Add(now - o.taken)
		r.rounds.Add(now - o.due)
	}
	if !more && r.closed.Load() {
		r.goOn(c)
	}
}
