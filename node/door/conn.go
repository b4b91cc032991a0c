package door

import (
	"encoding/binary"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"github.com/peerservers/peerserver/protocol"
)

// Opcodes of the frames that a node sends.
const (
	opText   = 0x80 | websocket.TextMessage
	opBinary = 0x80 | websocket.BinaryMessage
	opPing   = 0x80 | websocket.PingMessage
	opPong   = 0x80 | websocket.PongMessage
	opClose  = 0x80 | websocket.CloseMessage
)

// headerSpace is left before each message for the usual frame header, that of
// 126 to 65,535 bytes.
const headerSpace = 4

// Conn is one client's WebSocket, to write to. Writing never blocks.
//
//	b, ok := c.Begin()
//	if ok {
//		ok = c.End(append(b, message...), door.Offer)
//	}
type Conn struct {
	// Static after Upgrade.
	host   *Host
	nc     net.Conn
	hot    *hotConn // nil: written by a goroutine, read by gorilla as usual
	frames *frames  // nil: hot, a worker's are used
	under  *hotConn // what nc is or wraps, nil when the listener is not ours
	sess   Session  // changed once at most, by the reader and with mu held
	flush  *flusher
	slot   *address // of the client, nil: not bounded
	own    bool     // slot is ours to close, not the connection's
	opcode byte

	forgets uint16 // messages that are still read, to no effect, by one who was told that they are too many; owned by the reader

	members atomic.Int32 // here, where it takes no room of its own: there are many Conns

	last atomic.Int64 // when the client was last heard, unix ns

	// Owned by the reader.
	messages, bytes, data bucket

	// Guarded by host.mu.
	prev, next *Conn
	listed     bool

	mu       sync.Mutex
	out      *buffer // finished frames, nil when there are none
	start    int     // of the message between Begin and End
	inFlight int     // bytes that a writer took and has not written
	pinged   int64   // when it was last pinged, unix ns
	dirty    bool    // on the flusher's list
	writing  bool    // a writer has bytes of this connection
	closing  bool    // a close frame is queued or came; nothing follows
	slow     bool    // the writer waits for the client
	lost     bool    // messages that were queued were thrown away
	hangUp   bool    // close the socket as soon as all is written
	dead     bool    // the socket is closed
}

// Class says what happens to a message that a slow client has no room for.
type Class uint8

// Classes.
const (
	// Reply is owed to the client: if there is no room the client is closed.
	Reply Class = iota
	// Offer may be lost: it is dropped and counted, long before a Reply has no
	// room.
	Offer
)

// Begin starts a message. Where ok, the caller appends to b at once and gives
// the result to End; the Conn is locked until then. Not ok: it is closed.
func (c *Conn) Begin() (b []byte, ok bool) {
	c.mu.Lock()
	if c.closing || c.dead {
		c.mu.Unlock()
		return nil, false
	}
	if c.out == nil {
		c.out = newOut()
	}
	c.start = len(c.out.b)
	return append(c.out.b, 0, 0, 0, 0), true
}

// End finishes the message that Begin started, and reports whether it will be
// sent.
func (c *Conn) End(b []byte, class Class) bool {
	b = frame(b, c.start, c.opcode)
	size := len(b) + c.inFlight
	switch {
	case class == Offer && size > c.host.cfg.OfferQueue:
		c.out.b = b[:c.start]
		if c.start == 0 {
			freeOut(c.out)
			c.out = nil
		}
		c.mu.Unlock()
		c.host.totals.lostOffers.Add(1)
		return false
	case size > c.host.cfg.Queue:
		c.out.b = b[:c.start]
		c.overflow()
		c.mu.Unlock()
		return false
	}
	c.out.b = b
	c.markDirty()
	c.mu.Unlock()
	return true
}

// frame writes the header of the message that begins at start with
// headerSpace, and moves the message when its header has another size.
func frame(b []byte, start int, opcode byte) []byte {
	n := len(b) - start - headerSpace
	switch {
	case n < 126:
		b[start+2], b[start+3] = opcode, byte(n)
		copy(b[start:], b[start+2:])
		return b[:len(b)-2]
	case n < 1<<16:
		b[start], b[start+1] = opcode, 126
		binary.BigEndian.PutUint16(b[start+2:], uint16(n))
		return b
	}
	b = append(b, 0, 0, 0, 0, 0, 0)
	copy(b[start+10:], b[start+4:])
	b[start], b[start+1] = opcode, 127
	binary.BigEndian.PutUint64(b[start+2:], uint64(n))
	return b
}

// markDirty is called with mu held.
func (c *Conn) markDirty() {
	if !c.dirty && !c.writing && !c.dead {
		c.dirty = true
		c.flush.add(c)
	}
}

// queue takes whole frames that gorilla wrote.
func (c *Conn) queue(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead || c.closing {
		return 0, net.ErrClosed
	}
	if c.out == nil {
		c.out = newOut()
	}
	if len(c.out.b)+c.inFlight+len(p) > c.host.cfg.Queue {
		c.overflow()
		return 0, net.ErrClosed
	}
	if len(p) > 0 && p[0] == opClose {
		c.closing = true
	}
	c.out.b = append(c.out.b, p...)
	c.markDirty()
	return len(p), nil
}

// control queues a control frame; mu is held.
func (c *Conn) control(opcode byte, data []byte) {
	if c.out == nil {
		c.out = newOut()
	}
	c.out.b = append(append(c.out.b, opcode, byte(len(data))), data...)
	c.markDirty()
}

// overflow closes a client that is too slow: what it was still to get makes
// room for the reason. mu is held.
func (c *Conn) overflow() {
	c.host.totals.slowClosed.Add(1)
	c.lost = true
	c.out.b = c.out.b[:0]
	c.closeLocked(protocol.CloseTryAgainLater, "too slow to read")
}

// Close ends the connection with a WebSocket close code, after what is queued
// was written. It does not wait.
func (c *Conn) Close(code int, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closing && !c.dead {
		c.closeLocked(code, reason)
	}
}

// CloseLater is Close within leaveEvery: for clients that may not come, or not
// now, whose library would come back in the same moment, for ever. The session is
// to heed nothing that they still send. It is called once.
func (c *Conn) CloseLater(code int, reason string) {
	h := c.host
	h.mu.Lock()
	defer h.mu.Unlock()
	h.leaving = append(h.leaving, leaving{c, code, reason})
}

// leaving is a connection that is closed soon.
type leaving struct {
	c      *Conn
	code   int
	reason string
}

func (c *Conn) closeLocked(code int, reason string) {
	c.closing = true
	c.control(opClose, websocket.FormatCloseMessage(code, reason))
	// The client's answer to the close ends the reader, or else this.
	c.nc.SetReadDeadline(time.Now().Add(closeLinger))
}

// kill closes the socket, which ends all goroutines that use it.
func (c *Conn) kill() {
	c.mu.Lock()
	c.killLocked()
	c.mu.Unlock()
}

func (c *Conn) killLocked() {
	if c.dead {
		return
	}
	c.lost = c.lost || c.hasMessages()
	c.dead, c.closing = true, true
	if c.out != nil {
		freeOut(c.out)
		c.out = nil
	}
	// Not nc.Close: under TLS that would write, and wait.
	if c.under != nil {
		c.under.Close()
		return
	}
	c.nc.Close()
}

// TakeMember counts one more member of this client and reports false when it
// has too many.
func (c *Conn) TakeMember() bool {
	if c.slot == nil {
		return true
	}
	if c.isFull() || !c.slot.addMembers(1, &c.host.cfg.Quota) {
		return false
	}
	c.members.Add(1)
	return true
}

func (c *Conn) isFull() bool {
	q := &c.host.cfg.Quota
	return q.Members > 0 && int(c.members.Load()) >= q.Members
}

// DropMember takes back one TakeMember.
func (c *Conn) DropMember() { c.Unseat().Free() }

// Seat is the place of a member in the quotas of its address, while it has no
// connection.
type Seat struct {
	host *Host
	slot *address
}

// Unseat takes back one TakeMember of the connection, but not of its address:
// the member outlives the connection, until the Seat is freed.
func (c *Conn) Unseat() Seat {
	if c.slot != nil {
		c.members.Add(-1)
	}
	return Seat{c.host, c.slot}
}

// TakeSeat is TakeMember for a member that has a Seat, which is freed if there is
// room.
func (c *Conn) TakeSeat(s Seat) bool {
	if c.slot == nil || c.slot != s.slot {
		if !c.TakeMember() {
			return false
		}
		s.Free()
		return true
	}
	if c.isFull() {
		return false
	}
	c.members.Add(1)
	return true
}

// Free ends the member. It is called once.
func (s Seat) Free() {
	if s.slot != nil && s.slot.addMembers(-1, &s.host.cfg.Quota) && s.slot.isEmpty() {
		s.host.addresses.tidy(s.slot)
	}
}

// Behind says whether messages are known to be lost with the connection, which
// has ended: they were not written when it did. It is for Session.Closed.
func (c *Conn) Behind() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	// A writer that does not wait for the client has written in a moment.
	for range 100 {
		if !c.writing || c.slow || c.dead {
			break
		}
		c.mu.Unlock()
		time.Sleep(100 * time.Microsecond)
		c.mu.Lock()
	}
	return c.lost || c.inFlight > 0 || c.hasMessages()
}

// hasMessages says whether more is queued than a close frame. mu is held.
func (c *Conn) hasMessages() bool {
	return c.out != nil && len(c.out.b) > 0 && c.out.b[0] != opClose
}

// countBytes is called by the reader.
func (c *Conn) countBytes(n int) bool {
	if c.slot == nil {
		return true
	}
	now, q := time.Now().UnixNano(), &c.host.cfg.Quota
	return c.bytes.take(now, n, q.Bytes, q.ByteBurst) && c.slot.takeBytes(now, n, q)
}

// countMessage is called by the reader.
func (c *Conn) countMessage(now int64) bool {
	if c.slot == nil {
		return true
	}
	q := &c.host.cfg.Quota
	return c.messages.take(now, 1, q.Messages, q.MessageBurst) && c.slot.takeMessages(now, 1, q)
}

// Spend counts n more messages of the client, for one that costs as much as
// several. It reports false when they are too many. It is for Session.Message.
func (c *Conn) Spend(n int) bool {
	if c.slot == nil {
		return true
	}
	q, now := &c.host.cfg.Quota, time.Now().UnixNano()
	return c.messages.take(now, n, q.Messages, q.MessageBurst) && c.slot.takeMessages(now, n, q)
}

// Charge is Spend that leaves half of each burst to messages that cost nothing
// more, so that who is refused is not closed with the next message. It returns
// after how long the same message can be sent again, 0 if its cost was spent.
// What costs more than half a burst costs that.
func (c *Conn) Charge(n int) time.Duration {
	if c.slot == nil {
		return 0
	}
	q, now := &c.host.cfg.Quota, time.Now().UnixNano()
	if wait := c.messages.charge(now, n, q.Messages, q.MessageBurst); wait > 0 {
		return wait
	}
	return c.slot.chargeMessages(now, n, q)
}

// ChargeData counts n bytes that are relayed for the client, at a rate of so
// many a second and twice as many at once, and says how long it is until they
// may be: 0 if they may. All clients of an address have dataPeers times as much.
// It is for Session.Message.
func (c *Conn) ChargeData(n, rate int) time.Duration {
	now, burst := time.Now().UnixNano(), max(2*rate, protocol.MaxPayload)
	if wait := c.data.lacks(now, n, rate, burst); wait > 0 {
		return wait
	}
	return c.slot.chargeData(now, n, dataPeers*rate, dataPeers*burst)
}

// Heard is when the client's last message came, in unix ns.
func (c *Conn) Heard() int64 { return c.last.Load() }
