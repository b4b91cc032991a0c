package relay

import (
	"net/netip"
	"runtime"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/peerservers/peerserver/protocol"
)

// maxLoose bounds the unsequenced frames that wait on one connection, in bytes.
const maxLoose = 256 << 10

// wire is one connection of a link. Its reader is the goroutine that made the
// handshake, its writer one of its own.
type wire struct {
	// Static.
	l      *link
	sc     *secureConn
	remote netip.Addr // of the other end, not valid where it is not known
	dialed bool       // by us
	since  instant
	wake   chan struct{}
	done   chan struct{}
	once   sync.Once
	ending sync.WaitGroup // what end started, which serve waits for

	// Guarded by l.mu.
	interests  []*swarm // to be made known
	resumed    bool     // the other side's Resume was taken: sequenced frames may go
	loose      [][]byte // Packets of unsequenced frames, to go first
	looseBytes int
	writing    bool // the writer has a Packet that is not written yet
	tags       map[[protocol.TagSize]byte]*swarm
	ackAll     bool // an acknowledgement goes out at once
	unacked    int  // bytes read since the last one
	ackAt      instant
	lastRead   instant
	lastSent   instant
	pinged     instant
	pingNonce  uint64            // of the Ping that is not answered yet, 0: none
	pong       uint64            // nonce of a Ping to be answered, 0: none
	rtts       [rttsKept]instant // of the last Pings, a ring
	measured   int               // how many there were
	renewed    instant           // when TurnKeys and the own record were sent last
}

func (w *wire) wakeUp() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// end closes the connection of a wire that is served; code is a WebSocket close
// code. It does not wait for who takes nothing: serve does.
func (w *wire) end(code int) {
	w.once.Do(func() {
		close(w.done)
		w.ending.Go(func() { w.sc.close(code) })
	})
}

// looseFrame queues unsequenced frames. Called with l.mu held.
func (w *wire) looseFrame(f *protocol.Frame) {
	if body, err := proto.Marshal(f); err == nil && w.looseBytes+len(body) < maxLoose {
		e := outgoing{body: body}
		w.loose = append(w.loose, e.appendFrame(nil))
		w.looseBytes += len(body) + 8
		w.wakeUp()
	}
}

// serve reads until the connection ends. The writer runs beside it.
func (w *wire) serve() {
	var writer sync.WaitGroup
	writer.Go(w.write)
	err := w.read()
	code := protocol.CloseMalformed
	if e := new(protocol.Error); !asError(err, &e) {
		code = 1000
	}
	w.end(code)
	w.l.detach(w) // first: a new connection need not wait for the end of this one
	writer.Wait()
	w.ending.Wait()
}

func (w *wire) read() error {
	l, r := w.l, w.l.r
	var reader packetReader
	var frames, bytes bucket
	for {
		plain, err := w.sc.readPacket()
		if err != nil {
			return err
		}
		now := r.now()
		l.mu.Lock()
		w.lastRead = now
		mine := l.w == w
		l.mu.Unlock()
		if !mine {
			return nil // replaced by another connection, which gets all of this again
		}
		done := 0
		ack, err := reader.packet(plain, func(f *protocol.Frame) error {
			done += work(f)
			return w.frame(f)
		})
		if err != nil {
			return err
		}
		l.mu.Lock()
		if w.resumed && l.w == w {
			l.acknowledge(ack)
			if l.dataMayGo() {
				w.wakeUp()
			}
			w.needAck(len(plain))
		}
		l.mu.Unlock()
		// What was done is paid for before more is read.
		wait := max(frames.pay(float64(done), protocol.LinkFrames, now), bytes.pay(float64(len(plain)), protocol.LinkBytes, now))
		if wait > 0 && !w.pause(time.Duration(wait)) {
			return nil
		}
	}
}

// work counts what there is to do for a frame: itself, and each entry of one
// that is a list.
func work(f *protocol.Frame) int {
	switch b := f.Body.(type) {
	case *protocol.Frame_Offers:
		return 1 + len(b.Offers.Offers)
	case *protocol.Frame_Interest:
		return 1 + len(b.Interest.Tags)
	case *protocol.Frame_Swarm:
		return 1 + len(b.Swarm.List)
	case *protocol.Frame_Presence:
		return 1 + len(b.Presence.Joins) + len(b.Presence.Leaves)
	case *protocol.Frame_Nodes:
		return 1 + len(b.Nodes.Records)
	}
	return 1
}

// pause slows down the reading of a node that sends more than its quota. It
// reports false when the connection ended meanwhile.
func (w *wire) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-w.done:
		return false
	}
}

// frame handles one frame once.
func (w *wire) frame(f *protocol.Frame) error {
	l := w.l
	if f.Seq != 0 {
		l.mu.Lock()
		repeated := f.Seq <= l.seen || l.w != w || !w.resumed
		l.mu.Unlock()
		if repeated {
			return nil
		}
	}
	if err := l.r.handle(l, w, f); err != nil {
		return err
	}
	if f.Seq != 0 {
		l.mu.Lock()
		l.seen = max(l.seen, f.Seq)
		l.mu.Unlock()
	}
	return nil
}

// needAck is called with l.mu held.
func (w *wire) needAck(n int) {
	if w.l.seen == w.l.acked && !w.ackAll {
		return
	}
	if w.unacked += n; w.unacked >= protocol.AckBytes {
		w.ackAll = true
	}
	if w.ackAt == 0 {
		w.ackAt = w.l.r.now().add(protocol.AckDelay)
	}
	w.wakeUp()
}

func (w *wire) write() {
	buf := make([]byte, 0, protocol.MaxNoise)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-w.done:
			return
		case <-w.wake:
			runtime.Gosched() // others may have more for the same packet
		case <-timer.C:
		}
		for {
			var wait instant
			buf, wait = w.packet(buf[:0])
			if len(buf) == 0 {
				timer.Reset(time.Duration(wait))
				break
			}
			if err := w.sc.writePacket(buf); err != nil {
				w.end(1000)
				return
			}
		}
	}
}

// packet fills buf with the next Packet, or leaves it empty and says how long
// there is nothing to do.
func (w *wire) packet(buf []byte) ([]byte, instant) {
	l := w.l
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.r.now()
	w.writing = false
	if l.w != w {
		return buf, ns(time.Hour)
	}
	due := w.ackAll || (w.ackAt != 0 && now >= w.ackAt)
	some := len(w.loose) > 0 || len(w.interests) > 0 || (w.resumed && (l.next < len(l.out) || l.dataMayGo()))
	if !due && !some {
		if w.ackAt != 0 {
			return buf, w.ackAt - now
		}
		return buf, ns(time.Hour)
	}
	w.writing = true
	buf = protowire.AppendTag(buf, 1, protowire.VarintType)
	ackPos := len(buf)
	buf = append(buf, make([]byte, 10)...) // a varint of fixed length, filled in below
	buf = w.appendPong(buf)
	for len(w.loose) > 0 && len(buf)+len(w.loose[0]) <= protocol.MaxPacket {
		buf = append(buf, w.loose[0]...)
		w.loose = w.loose[1:]
	}
	if len(w.loose) == 0 {
		w.loose, w.looseBytes = nil, 0
	}
	if len(w.loose) == 0 {
		buf = w.appendInterest(buf)
	}
	for w.resumed && len(w.loose) == 0 && len(w.interests) == 0 && l.next < len(l.out) && len(buf)+len(l.out[l.next].body)+32 <= protocol.MaxPacket {
		buf = w.appendNext(buf)
	}
	for w.resumed && len(w.loose) == 0 && len(w.interests) == 0 && l.next == len(l.out) && l.dataMayGo() && len(buf)+len(l.data[0].body)+32 <= protocol.MaxPacket {
		l.nextData()
		buf = w.appendNext(buf)
	}
	ack := l.seen
	if l.next < len(l.out) {
		// What answers a frame still waits: its acknowledgement does too.
		ack = min(ack, max(l.out[l.next].seenAt, l.acked))
	}
	putVarint10(buf[ackPos:], ack)
	l.acked = ack
	w.ackAll, w.unacked, w.ackAt, w.lastSent = false, 0, 0, now
	if l.seen != l.acked {
		w.ackAt = now.add(protocol.AckDelay)
	}
	return buf, 0
}

func (w *wire) appendNext(buf []byte) []byte {
	e := &w.l.out[w.l.next]
	w.l.next++
	return e.appendFrame(buf)
}

// putVarint10 writes v in ten bytes: decoders take the padding.
func putVarint10(b []byte, v uint64) {
	for i := range 9 {
		b[i] = byte(v)&0x7f | 0x80
		v >>= 7
	}
	b[9] = byte(v) & 1
}
