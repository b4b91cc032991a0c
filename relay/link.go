package relay

import (
	crand "crypto/rand"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/peerservers/peerserver/protocol"
)

// link is one other node: the connection to it, when there is one, and what
// must survive its loss. Frames wait in out until they are acknowledged, over
// as many connections as that takes.
type link struct {
	// Static after newLink.
	r     *Relay
	node  protocol.NodeID
	epoch uint64
	salt  uint64 // tells offers sent over it from those sent elsewhere

	mu         sync.Mutex
	w          *wire // nil while down
	remotes    map[uint32]*remote
	published  map[uint32]uint64 // publishes sent, by swarm number; outlives the remotes
	record     *protocol.Record
	introduced bool         // to the others of the mesh
	url        string       // where a dial of ours succeeded
	chosen     bool         // dialled by us
	subnet     netip.Prefix // of the other end

	out        []outgoing // sequenced, oldest first
	room       []outgoing // the array that out is in, empty
	next       int        // of out: the first not yet written on w
	bytes      int        // of out
	inFlight   int        // of these, relayed data
	data       []outgoing // relayed data that waits until nothing else does; it has no sequence yet
	waiting    int        // bytes of data
	seq        uint64     // last given
	peerEpoch  uint64
	seen       uint64 // last handled of peerEpoch
	acked      uint64 // what of it has been acknowledged
	remembered bool   // the other node has taken something of this epoch

	downAt     instant                  // when w ended
	gaveUp     bool                     // offers and sends of out were placed elsewhere or failed
	lost       bool                     // the members behind it have left
	idleAt     instant                  // since when nothing is shared; -1 while something is
	drainUntil instant                  // the other node said goodbye: not redialled before
	idleUntil  instant                  // it ended for want of anything shared: not dialled for the mesh before
	turnKeys   []*protocol.TurnKeys_Key // for the other node's TURN server
	asked      *question                // our Probe that is not answered yet
	probes     bucket                   // its Probes
	probing    bool                     // one of these is tried now
	keysSince  instant                  // records it handed over, by hour
	keys       int
}

// frameKind says what becomes of a frame when the link is lost or full.
type frameKind uint8

const (
	kindControl  frameKind = iota // dropped: a new Swarm replaces it
	kindPresence                  // dropped: a snapshot replaces it
	kindOffers                    // placed elsewhere
	kindSignal                    // fails
	kindData                      // fails; goes last, and its sender waits when the link is full
	kindPublish                   // sent again
)

// outgoing is a sequenced frame on its way.
type outgoing struct {
	kind   frameKind
	again  bool    // an offer placed for the second time
	waits  bool    // a signal that waits for its member if it is not there
	tries  uint8   // how often that one was sent before
	owner  *Member // who hears of a failure
	rem    *remote
	seq    uint64
	seenAt uint64 // link.seen when it was made: an acknowledgement of more may not overtake it
	at     instant
	body   []byte // a Frame without seq
}

func (r *Relay) newLink(node protocol.NodeID) *link {
	var b [16]byte
	crand.Read(b[:])
	return &link{
		r: r, node: node, epoch: binary.BigEndian.Uint64(b[:]) | 1, salt: binary.BigEndian.Uint64(b[8:]),
		remotes: make(map[uint32]*remote), published: make(map[uint32]uint64), idleAt: -1,
	}
}

// send queues a frame and reports its sequence, or why the link does not take
// it.
func (l *link) send(e outgoing, f *protocol.Frame) (uint64, protocol.Code) {
	body, err := proto.Marshal(f)
	if err != nil {
		return 0, protocol.CodeInternal
	}
	return l.sendEncoded(e, body)
}

// sendEncoded is send of a Frame that is encoded already, without its sequence.
func (l *link) sendEncoded(e outgoing, body []byte) (uint64, protocol.Code) {
	if len(body) > protocol.MaxPacket-64 {
		return 0, protocol.CodeTooLarge
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gaveUp && e.kind != kindControl {
		return 0, protocol.CodeNodeGone
	}
	e.body = body
	if e.kind == kindData {
		if l.waiting+len(body) > protocol.DataWaiting {
			return 0, protocol.CodeFull
		}
		l.waiting += len(body)
		l.data = append(l.data, e)
	} else {
		if code := l.makeRoom(e.kind, len(body)); code != protocol.CodeOK {
			return 0, code
		}
		l.sequence(e)
	}
	if l.w != nil {
		l.w.wakeUp()
	}
	return l.seq, protocol.CodeOK
}

// sequence gives a frame its place. Called with mu held.
func (l *link) sequence(e outgoing) {
	l.seq++
	e.seq, e.seenAt, e.at = l.seq, l.seen, l.r.now()
	l.queue(e)
}

// dataMayGo says whether relayed data may be written, nothing else being left
// to write: only so much that what comes next does not wait long, and has room.
// Called with mu held.
func (l *link) dataMayGo() bool {
	return len(l.data) > 0 && l.inFlight < protocol.DataInFlight && l.bytes+len(l.data[0].body) <= protocol.ResendBytes
}

// nextData gives the next relayed data its place. Called with mu held.
func (l *link) nextData() {
	e := l.data[0]
	l.data[0] = outgoing{}
	if l.data = l.data[1:]; len(l.data) == 0 {
		l.data = nil
	}
	l.waiting -= len(e.body)
	l.sequence(e)
}

// keptRoom is for how many frames a link keeps room when none waits.
const keptRoom = 256

// queue appends to out. What acknowledgements have left free at the beginning
// of its array is used again. Called with mu held.
func (l *link) queue(e outgoing) {
	switch n := len(l.out); {
	case n < cap(l.out):
	case n == 0:
		l.out = l.room
	case cap(l.room) >= 2*n:
		l.out = append(l.room, l.out...)
		clear(l.room[n:cap(l.room)])
	}
	grows := len(l.out) == cap(l.out)
	l.out = append(l.out, e)
	if grows {
		l.room = l.out[:0]
	}
	l.count(&e, 1)
}

// count counts a frame of out, or with -1 one that leaves it. Called with mu
// held.
func (l *link) count(e *outgoing, by int) {
	l.bytes += by * len(e.body)
	if e.kind == kindData {
		l.inFlight += by * len(e.body)
	}
}

// makeRoom keeps out within its bound: the oldest offers go first. Called with
// mu held.
func (l *link) makeRoom(kind frameKind, n int) protocol.Code {
	if l.bytes+n <= protocol.ResendBytes {
		return protocol.CodeOK
	}
	// Several at a time, so that the walk is paid for by many frames.
	want := l.bytes + n - protocol.ResendBytes*3/4
	before := l.next
	kept := l.out[:0]
	for i, e := range l.out {
		if want > 0 && e.kind == kindOffers {
			want -= len(e.body)
			l.count(&e, -1)
			l.r.totals.refused.Add(1)
			if i < before {
				l.next--
			}
			continue
		}
		kept = append(kept, e)
	}
	clear(l.out[len(kept):])
	l.out = kept
	switch {
	case l.bytes+n <= protocol.ResendBytes:
		return protocol.CodeOK
	case (kind == kindControl || kind == kindPresence) && l.bytes+n <= 2*protocol.ResendBytes:
		return protocol.CodeOK
	}
	return protocol.CodeFull
}

// notServed says that an app is not served here, or no more. It is not
// sequenced, so that it cannot be overtaken by an Interest that says otherwise.
func (l *link) notServed(app uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.w != nil {
		l.w.looseFrame(&protocol.Frame{Body: &protocol.Frame_Swarm{Swarm: &protocol.Swarm{App: app}}})
	}
}

// fail answers a frame that could not be placed or delivered.
func (l *link) fail(seq uint64, code protocol.Code, offers [][]byte) {
	l.refuse(seq, code, 0, offers)
}

// refuse is fail that says when to try again.
func (l *link) refuse(seq uint64, code protocol.Code, wait instant, offers [][]byte) {
	l.send(outgoing{kind: kindControl}, &protocol.Frame{Body: &protocol.Frame_Fail{Fail: &protocol.Fail{
		Seq: seq, Code: uint32(code), RetryAfter: millis(wait), Offers: offers,
	}}})
}

func (l *link) remote(number uint32) *remote {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.remotes[number]
}

func (l *link) isUp() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w != nil && l.w.resumed
}

// origin says whether we dialled the link, and the subnet it comes from.
func (l *link) origin() (chosen bool, subnet netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.chosen, l.subnet
}

// subnetOf is the /24 or /48 of a public address. Any other may be a proxy's,
// and says nothing.
func subnetOf(a net.Addr) netip.Prefix {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil || !protocol.Public(ap.Addr()) {
		return netip.Prefix{}
	}
	ip, bits := ap.Addr().Unmap(), 24
	if ip.Is6() {
		bits = 48
	}
	p, err := ip.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

func (l *link) seenNow() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen
}

// sentFrame is the frame of that sequence, if it has not been acknowledged; it
// is taken out, so that it fails once.
func (l *link) sentFrame(seq uint64) (outgoing, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i, ok := slices.BinarySearchFunc(l.out, seq, func(e outgoing, seq uint64) int {
		switch {
		case e.seq < seq:
			return -1
		case e.seq > seq:
			return 1
		}
		return 0
	})
	if !ok || i >= l.next {
		return outgoing{}, false
	}
	e := l.out[i]
	l.remove(i)
	return e, true
}

// remove is called with mu held.
func (l *link) remove(i int) {
	l.count(&l.out[i], -1)
	l.out = slices.Delete(l.out, i, i+1)
	if i < l.next {
		l.next--
	}
}

// acknowledge drops what the other node has handled. Called with mu held.
func (l *link) acknowledge(ack uint64) {
	n := 0
	for n < len(l.out) && l.out[n].seq <= ack && n < l.next {
		l.count(&l.out[n], -1)
		freeBody(l.out[n].body)
		l.out[n] = outgoing{}
		n++
	}
	if n == 0 {
		return
	}
	l.remembered = true
	l.next -= n
	if l.out = l.out[n:]; len(l.out) == 0 {
		l.out = nil
		if cap(l.room) > keptRoom {
			l.room = nil
		}
	}
}

// takeOut removes the frames of some kinds, to give them up.
func (l *link) takeOut(kinds ...frameKind) []outgoing {
	l.mu.Lock()
	defer l.mu.Unlock()
	var taken []outgoing
	kept := make([]outgoing, 0, len(l.out))
	next := 0
	for i, e := range l.out {
		if slices.Contains(kinds, e.kind) {
			taken = append(taken, e)
			l.count(&e, -1)
			continue
		}
		if i < l.next {
			next++
		}
		kept = append(kept, e)
	}
	l.out, l.room, l.next = kept, kept[:0], next
	if slices.Contains(kinds, kindData) {
		taken = append(taken, l.data...)
		l.data, l.waiting = nil, 0
	}
	return taken
}

// resume compares what both sides remember. What the other one has handled is
// dropped, the rest is sent again. A side that has forgotten starts anew: then
// its members are gone, and what waited for them goes elsewhere.
func (l *link) resume(w *wire, f *protocol.Resume) error {
	l.mu.Lock()
	if w.resumed || l.w != w {
		l.mu.Unlock()
		return nil
	}
	if f.Epoch == 0 {
		l.mu.Unlock()
		return protocol.Errorf(protocol.CodeMalformed, "resume without an epoch")
	}
	since := l.downAt
	if since == 0 {
		since = l.r.now()
	}
	restarted := l.peerEpoch != 0 && l.peerEpoch != f.Epoch
	forgot := f.PeerEpoch != l.epoch && l.remembered
	l.remembered = l.remembered || f.PeerEpoch == l.epoch
	if l.peerEpoch != f.Epoch {
		l.peerEpoch, l.seen, l.acked = f.Epoch, 0, 0
	}
	if f.PeerEpoch == l.epoch {
		l.next = len(l.out)
		l.acknowledge(f.Seen)
	}
	l.mu.Unlock()
	if forgot || restarted {
		l.startAnew(since)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.w != w {
		return nil
	}
	l.next, w.resumed = 0, true
	l.gaveUp, l.lost, l.downAt = false, false, 0
	w.wakeUp()
	return nil
}

// startAnew is for a node that restarted, or forgot us: nothing that waited can
// arrive as it was. The members that it showed leave when they would have
// without it, so that their clients have time to come back; since is when the
// link went down.
func (l *link) startAnew(since instant) {
	for _, e := range l.takeOut(kindControl, kindPresence, kindOffers, kindSignal, kindData, kindPublish) {
		l.r.giveUp(l, e, protocol.CodeNodeGone, nil)
	}
	l.mu.Lock()
	clear(l.published)
	l.remembered, l.introduced = false, false
	l.mu.Unlock()
	due := since.add(protocol.GiveUpPresence)
	for _, rem := range l.shared() {
		rem.s.mu.Lock()
		rem.s.orphan(rem, due)
		rem.s.mu.Unlock()
	}
}

// lose forgets the members behind the link.
func (l *link) lose(why Kind) {
	for _, rem := range l.shared() {
		rem.s.mu.Lock()
		rem.s.unbind(rem, why)
		rem.s.mu.Unlock()
	}
}

func (l *link) shared() []*remote {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]*remote, 0, len(l.remotes))
	for _, rem := range l.remotes {
		all = append(all, rem)
	}
	return all
}

// appendFrame adds a frame to a Packet.
func (e *outgoing) appendFrame(b []byte) []byte {
	b = protowire.AppendTag(b, 2, protowire.BytesType)
	n := len(e.body)
	if e.seq != 0 {
		n += 1 + protowire.SizeVarint(e.seq)
	}
	b = protowire.AppendVarint(b, uint64(n))
	if e.seq != 0 {
		b = protowire.AppendTag(b, 1, protowire.VarintType)
		b = protowire.AppendVarint(b, e.seq)
	}
	return append(b, e.body...)
}
