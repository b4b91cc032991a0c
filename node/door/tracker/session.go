package tracker

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/relay"
)

// maxScrape is how many infohashes one scrape may name.
const maxScrape = protocol.MaxTempApps

// session is one socket: any number of infohashes and peer_ids.
type session struct {
	// Static.
	d *Door
	c *door.Conn

	mu    sync.Mutex
	peers []*peer
	index map[key]*peer // of peers, when there are many
}

type key struct{ hash, peer id }

// indexAbove is the number of peers from which a map is worth its room.
const indexAbove = 16

// maxEcho is how long an info_hash may be that a refusal repeats: 20 characters,
// escaped.
const maxEcho = 256

// scratch is what handling one message needs; pooled, so that it is not on the
// stack of every connection.
type scratch struct {
	f      fields
	key    key
	to     id
	event  event
	answer bool
	ids    []byte // of the offers, one after the other
	offers []relay.Offer
	ref    []byte
	hashes []id
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// Refusals that bittorrent-tracker's clients may know.
var (
	errHash   = errors.New("invalid info_hash")
	errPeer   = errors.New("invalid peer_id")
	errTo     = errors.New("invalid `to_peer_id` (required with `answer`)")
	errEvent  = errors.New("invalid event")
	errJSON   = errors.New("invalid JSON")
	errOffers = errors.New("invalid offers")
	errRef    = errors.New("invalid offer_id")
	errLarge  = errors.New("offer or answer too large")
	errScrape = errors.New("too many info_hash in one scrape")
	errSize   = errors.New("message too large")
	errRate   = errors.New("too many messages")
	errFull   = errors.New("this tracker has as many clients as its operator lets in; use another node")
	errSwarms = errors.New("too many swarms on this connection")
)

// Message implements door.Session.
func (s *session) Message(b []byte) {
	s.d.messages.Add(1)
	sc := scratches.Get().(*scratch)
	s.handle(sc, b)
	sc.f.reset()
	clear(sc.offers)
	scratches.Put(sc)
}

func (s *session) handle(sc *scratch, b []byte) {
	if !split(b, &sc.f) {
		s.fail("announce", nil, errJSON)
		return
	}
	switch string(sc.f.action) {
	case `"announce"`:
		s.announce(sc)
		return
	case `"scrape"`:
		s.scrape(sc)
		return
	}
	switch action, _ := text(sc.f.action); action {
	case "announce":
		s.announce(sc)
	case "scrape":
		s.scrape(sc)
	default:
		s.fail("announce", sc.f.infoHash, errAction(sc.f.action))
	}
}

// Refuse implements door.Session.
func (s *session) Refuse(code protocol.Code) {
	if code == protocol.CodeRate {
		s.fail("announce", nil, errRate)
		return
	}
	s.fail("announce", nil, errSize)
}

func (s *session) announce(sc *scratch) {
	if !sc.key.hash.read(sc.f.infoHash) {
		s.fail("announce", sc.f.infoHash, errHash)
		return
	}
	err := sc.readAnnounce()
	if err == nil {
		s.mu.Lock()
		err = s.act(sc)
		s.mu.Unlock()
	}
	if err != nil {
		s.fail("announce", sc.f.infoHash, err)
	}
}

// act does what an announce asks for; mu is held.
func (s *session) act(sc *scratch) error {
	p := s.find(&sc.key)
	known, told := p != nil, protocol.IntervalSmall
	if known {
		told = p.told
	}
	if known && p.gone.Load() {
		s.remove(p)
		p = nil
	}
	switch {
	case sc.event == stopped:
		return s.stop(sc, p)
	case sc.answer && !known:
		// It was never given an offer here. No reply: an answer never gets one.
		return nil
	case p == nil:
		var err error
		if p, err = s.join(sc); err != nil {
			return err
		}
		p.told = told
	}
	p.heard = s.c.Heard()
	if (isZero(sc.f.left) || sc.event == completed) && !p.seeder {
		p.seed()
	}
	if sc.answer {
		p.m.Send(relay.Message{Kind: relay.KindAnswer, To: string(sc.to[:]), Ref: sc.ref, Payload: sc.f.answer})
		if len(sc.offers) == 0 {
			return nil
		}
	} else {
		counts := p.m.Counts()
		p.told = counts.Interval
		s.reply(sc, counts)
		p.replied()
	}
	p.m.Offer(sc.offers)
	return nil
}

func (s *session) stop(sc *scratch, p *peer) error {
	var counts relay.Counts
	if p != nil {
		p.m.Leave()
		counts = p.m.Counts()
		s.remove(p)
	} else {
		counts.Interval = protocol.IntervalLarge
	}
	s.reply(sc, counts)
	return nil
}

func (s *session) join(sc *scratch) (*peer, error) {
	if !s.c.TakeMember() {
		return nil, errSwarms
	}
	p := &peer{c: s.c, d: s.d, key: sc.key, seeder: isZero(sc.f.left) || sc.event == completed}
	if !sc.answer { // an answer gets no reply
		p.early.Store(new(early))
	}
	m, err := s.d.relay.Join(app(&sc.key.hash), relay.Joining{
		ID: string(sc.key.peer[:]), Sink: p, TakesOffers: true, Seeder: p.seeder,
	})
	if err != nil {
		s.c.DropMember()
		return nil, err
	}
	p.m = m
	s.add(p)
	return p, nil
}

// reply answers an announce, before its offers go out.
func (s *session) reply(sc *scratch, counts relay.Counts) {
	b, ok := s.c.Begin()
	if !ok {
		return
	}
	b = append(b, `{"action":"announce","interval":`...)
	b = appendInt(b, int(counts.Interval/time.Second))
	b = append(b, `,"info_hash":`...)
	b = appendString(b, sc.key.hash[:])
	b = append(b, `,"complete":`...)
	b = appendInt(b, counts.Complete)
	b = append(b, `,"incomplete":`...)
	b = appendInt(b, counts.Incomplete)
	s.c.End(append(b, '}'), door.Reply)
}

func (s *session) scrape(sc *scratch) {
	err := sc.readScrape()
	if err != nil {
		s.fail("scrape", sc.f.infoHash, err)
		return
	}
	// Other nodes may be asked for each.
	if !s.c.Spend(len(sc.hashes)) {
		s.fail("scrape", sc.f.infoHash, errRate)
		return
	}
	if len(sc.f.infoHash) == 0 || string(sc.f.infoHash) == "null" {
		// The reference server lists all there is; that would tell anybody who
		// asks what others do.
		s.mu.Lock()
		for _, p := range s.peers[:min(maxScrape, len(s.peers))] {
			sc.hashes = append(sc.hashes, p.key.hash)
		}
		s.mu.Unlock()
	}
	hashes := append([]id(nil), sc.hashes...)
	apps := make([]protocol.AppID, len(hashes))
	for i := range hashes {
		apps[i] = app(&hashes[i])
	}
	c := s.c
	s.d.relay.Scrape(apps, func(counts []relay.Counts) { scraped(c, hashes, counts) })
}

func scraped(c *door.Conn, hashes []id, counts []relay.Counts) {
	b, ok := c.Begin()
	if !ok {
		return
	}
	interval := protocol.IntervalLarge
	b = append(b, `{"action":"scrape","files":{`...)
	for i := range hashes {
		if i > 0 {
			b = append(b, ',')
		}
		n := counts[i]
		interval = min(interval, n.Interval)
		b = appendString(b, hashes[i][:])
		b = append(b, `:{"complete":`...)
		b = appendInt(b, n.Complete)
		b = append(b, `,"incomplete":`...)
		b = appendInt(b, n.Incomplete)
		b = append(b, `,"downloaded":`...)
		b = appendInt(b, n.Complete)
		b = append(b, '}')
	}
	b = append(b, `},"flags":{"min_request_interval":`...)
	b = appendInt(b, int(interval/time.Second))
	c.End(append(b, "}}"...), door.Reply)
}

// fail tells the client that a message was not done. It always names an
// action: the client reconnects minutes later after one without. To an announce
// it always names an info_hash, if only an empty one, because the client throws
// where there is none; hash is the JSON that came. The socket stays open.
func (s *session) fail(action string, hash []byte, reason error) {
	s.d.bad.Add(1)
	b, ok := s.c.Begin()
	if !ok {
		return
	}
	b = append(b, `{"action":"`...)
	b = append(b, action...)
	b = append(b, `","failure reason":`...)
	b = appendText(b, reason.Error())
	switch {
	case len(hash) > 1 && len(hash) <= maxEcho && hash[0] == '"':
		b = append(b, `,"info_hash":`...)
		b = append(b, hash...)
	case action == "announce":
		b = append(b, `,"info_hash":""`...)
	}
	s.c.End(append(b, '}'), door.Reply)
}

// Sweep implements door.Session: a peer is gone after twice the interval that
// it was last told.
func (s *session) Sweep(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range slices.Backward(s.peers) {
		if p.gone.Load() || now.UnixNano()-p.heard > int64(2*p.told) {
			p.m.Leave()
			s.remove(p)
		}
	}
}

// Closed implements door.Session: all peers of the socket leave.
func (s *session) Closed() {
	defer s.d.places.Free()
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.peers) > 0 {
		p := s.peers[len(s.peers)-1]
		p.m.Leave()
		s.remove(p)
	}
}
