package native

import (
	"encoding/binary"
	"net/url"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/relay"
)

// session is one socket: one peer, in any number of apps.
type session struct {
	// Static.
	d         *Door
	c         *door.Conn
	host      string // that the request was for; from the login on the one that was dialled, without a port
	nonce     uint32 // tells its refs from those of the peer's other sockets
	challenge *protocol.Challenge

	mu      sync.Mutex
	peer    protocol.PeerID // zero before the login
	members map[key]*member
}

// What requests cost beside the message that they are, in messages. A join is
// shown to all who are there, and all of them are looked at to find those whom
// it is shown; a broadcast goes to all.
const (
	joinCost       = 20
	iceCost        = 10       // keys are computed for each server; a peer asks once in an hour
	joinShare      = 20       // one more for so many members
	broadcastEach  = 4 << 10  // what a message costs besides its own bytes, in bytes
	broadcastShare = 64 << 10 // one more for so many bytes
)

// key is what a client names a membership of its own by.
type key struct {
	app     protocol.AppID
	session protocol.Session
}

// Message implements door.Session.
func (s *session) Message(b []byte) {
	s.d.messages.Add(1)
	var m protocol.ToNode
	if proto.Unmarshal(b, &m) != nil {
		s.tell(0, refuse(protocol.CodeMalformed, "a message that does not parse"))
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.act(&m); err != nil {
		s.tell(m.Ref, err)
	}
}

// Refuse implements door.Session.
func (s *session) Refuse(code protocol.Code) {
	if code == protocol.CodeRate {
		s.tell(0, refuse(code, "too many messages; wait before the next connection"))
		return
	}
	s.tell(0, refuse(code, "a message is over %d bytes", protocol.MaxMessage))
}

func (s *session) act(m *protocol.ToNode) *refusal {
	if login, ok := m.Body.(*protocol.ToNode_Login); ok {
		return s.login(m.Ref, login.Login)
	}
	if s.peer == (protocol.PeerID{}) {
		return refuse(protocol.CodeDenied, "log in first")
	}
	switch b := m.Body.(type) {
	case *protocol.ToNode_Join:
		return s.join(m.Ref, b.Join)
	case *protocol.ToNode_Part:
		return s.part(m.Ref, b.Part)
	case *protocol.ToNode_Send:
		return s.send(m.Ref, b.Send)
	case *protocol.ToNode_Broadcast:
		return s.broadcast(m.Ref, b.Broadcast)
	case *protocol.ToNode_AskIce:
		return s.askICE(m.Ref)
	case *protocol.ToNode_Beat:
		s.done(m.Ref)
		return nil
	}
	return refuse(protocol.CodeMalformed, "a request of a kind that this node does not know")
}

func (s *session) login(ref uint32, l *protocol.Login) *refusal {
	if s.peer != (protocol.PeerID{}) {
		return refuse(protocol.CodeMalformed, "there was a login before")
	}
	id, err := l.Verify(s.challenge)
	if err != nil {
		return refuseError(err)
	}
	if !s.d.cfg.IsOwn(l.Url, s.host) {
		return refuse(protocol.CodeDenied, "login: the URL that was dialled is not this node's; its operator has to name it with --url")
	}
	s.peer = id
	if u, err := url.Parse(l.Url); err == nil { // a proxy may have asked for another
		s.host = u.Hostname()
	}
	s.write(&protocol.ToPeer{Ref: ref, Body: &protocol.ToPeer_Welcome{Welcome: &protocol.Welcome{
		Nodes: s.d.cfg.Nodes(), Signature: protocol.SignWelcome(s.d.cfg.Key, s.challenge, l),
	}}}, door.Reply)
	return nil
}

func (s *session) join(ref uint32, j *protocol.Join) *refusal {
	if len(j.App) != len(protocol.AppID{}) {
		return refuse(protocol.CodeMalformed, "join: an app has 20 bytes")
	}
	app := protocol.AppID(j.App)
	if wait := s.c.Charge(joinCost + s.d.cfg.Relay.Audience(app)/joinShare); wait > 0 {
		return refuse(protocol.CodeRate, "join: too many joins").after(wait)
	}
	p, err := j.Presence.Verify(app)
	if err != nil {
		return refuseError(err)
	}
	if p.Member.Peer != s.peer {
		return refuse(protocol.CodeDenied, "join: the presence is somebody else's")
	}
	blob, err := proto.Marshal(p.Signed)
	if err != nil || len(blob) > protocol.MaxBlob {
		return refuse(protocol.CodeTooLarge, "join: the presence is over %d bytes", protocol.MaxBlob)
	}
	return s.enter(ref, key{app, p.Member.Session}, p, blob)
}

// enter makes a member of a presence that was checked, or takes over the one
// that was kept for it.
func (s *session) enter(ref uint32, k key, p *protocol.PeerPresence, blob []byte) *refusal {
	old := s.members[k]
	if old == nil {
		m := s.d.keeper.take(kept{k.app, p.Member})
		if m != nil && s.resume(ref, m, p, blob) {
			return nil
		}
		if (m == nil || !m.yield(s.c)) && !s.c.TakeMember() {
			return refuse(protocol.CodeFull, "join: too many apps on this connection or from this address; part from one first").after(0)
		}
	}
	m := &member{d: s.d, s: s, key: k, id: p.Member, seal: p.Seal, until: time.Now().Add(p.TTL)}
	var err error
	m.m, err = s.d.cfg.Relay.Join(k.app, relay.Joining{
		ID: string(p.Member.Bytes()), Sink: m, Present: true, WantsPresence: true, TakesOffers: true, Subscriber: true, Blob: blob,
	})
	if err != nil { // an old one stays
		if old == nil {
			s.c.DropMember()
		}
		return refuseJoin(err)
	}
	if old == nil {
		s.d.members.Add(1)
	}
	s.members[k] = m // it takes the old one's place: nobody was told that it left
	m.joined(ref, s.ice())
	return nil
}

// ice are the servers for the peer, nil when there are none.
func (s *session) ice() *protocol.IceServers {
	if s.d.cfg.ICE == nil {
		return nil
	}
	return s.d.cfg.ICE(s.peer[:], s.host)
}

func (s *session) askICE(ref uint32) *refusal {
	if wait := s.c.Charge(iceCost); wait > 0 {
		return refuse(protocol.CodeRate, "ask_ice: too often; once before they expire will do").after(wait)
	}
	servers := s.ice()
	if servers == nil {
		servers = new(protocol.IceServers)
	}
	s.write(&protocol.ToPeer{Ref: ref, Body: &protocol.ToPeer_IceServers{IceServers: servers}}, door.Reply)
	return nil
}

func (s *session) part(ref uint32, p *protocol.Part) *refusal {
	k, m, err := s.member(p.App, p.Session)
	if err != nil {
		return err
	}
	s.drop(k, m)
	s.done(ref)
	return nil
}

func (s *session) send(ref uint32, q *protocol.Send) *refusal {
	_, m, err := s.member(q.App, q.Session)
	if err != nil {
		return err
	}
	if _, err := protocol.ParseMember(q.To); err != nil {
		return refuseError(err)
	}
	payload, err := envelopeBytes(q.Envelope)
	if err != nil {
		return err
	}
	kind := relay.KindDirect
	if q.Data {
		kind = relay.KindData
		if err := s.chargeData(len(payload)); err != nil {
			return err
		}
	}
	if code := m.m.Send(relay.Message{Kind: kind, To: string(q.To), Ref: s.refBytes(ref), Payload: payload}); code != protocol.CodeOK {
		return refuseSend(code)
	}
	s.d.sends.Add(1)
	if q.Data {
		s.d.dataMessages.Add(1)
		s.d.dataBytes.Add(uint64(len(payload)))
	}
	s.done(ref)
	return nil
}

// chargeData counts what is to be relayed for peers without a direct path.
func (s *session) chargeData(n int) *refusal {
	rate := s.d.cfg.RelayData
	if rate <= 0 {
		return refuse(protocol.CodeDenied, "send: this node relays no data, only signals; another one may")
	}
	if wait := s.c.ChargeData(n, rate); wait > 0 {
		s.d.dataRefused.Add(1)
		return refuse(protocol.CodeRate, "send: over %d bytes a second of relayed data", rate).after(wait)
	}
	return nil
}

// broadcast gives an envelope to all other members. It costs as much as the
// messages that it becomes, in the end.
func (s *session) broadcast(ref uint32, q *protocol.Broadcast) *refusal {
	k, m, err := s.member(q.App, q.Session)
	if err != nil {
		return err
	}
	payload, err := envelopeBytes(q.Envelope)
	if err != nil {
		return err
	}
	bytes := s.d.cfg.Relay.Audience(k.app) * (len(payload) + broadcastEach)
	if wait := s.c.Charge(bytes / broadcastShare); wait > 0 {
		return refuse(protocol.CodeRate, "broadcast: too many, of this size and to so many").after(wait)
	}
	if code := m.m.Publish(payload); code != protocol.CodeOK {
		return refuse(code, "broadcast: %v", code)
	}
	s.d.broadcasts.Add(1)
	s.done(ref)
	return nil
}

// envelopeBytes is what other members, and other nodes, are given.
func envelopeBytes(e *protocol.Envelope) ([]byte, *refusal) {
	b, err := proto.Marshal(e)
	if err != nil || len(b) == 0 || len(b) > protocol.MaxPayload {
		return nil, refuse(protocol.CodeTooLarge, "an envelope has 1 to %d bytes", protocol.MaxPayload)
	}
	return b, nil
}

func (s *session) member(app, session []byte) (key, *member, *refusal) {
	if len(app) == len(protocol.AppID{}) && len(session) == len(protocol.Session{}) {
		k := key{protocol.AppID(app), protocol.Session(session)}
		if m := s.members[k]; m != nil {
			return k, m, nil
		}
	}
	return key{}, nil, refuse(protocol.CodeUnknownPeer, "this connection has not joined that app with that session")
}

// drop ends a membership.
func (s *session) drop(k key, m *member) {
	m.m.Leave()
	delete(s.members, k)
	s.c.DropMember()
	s.d.members.Add(-1)
}

// Sweep implements door.Session: a presence that has expired is shown no more.
func (s *session) Sweep(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, m := range s.members {
		switch {
		case m.replaced.Load(): // by a join on another socket
			s.drop(k, m)
		case now.After(m.until):
			s.drop(k, m)
			s.write(m.departed(m.m.ID(), false), door.Reply)
		}
	}
}

// Closed implements door.Session: the memberships of the socket are kept for a
// while.
func (s *session) Closed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keepAll()
	s.d.sessions.Add(-1)
	s.d.places.Free()
}

func (s *session) done(ref uint32) {
	if ref != 0 {
		s.write(&protocol.ToPeer{Ref: ref, Body: &protocol.ToPeer_Done{Done: &protocol.Done{}}}, door.Reply)
	}
}

func (s *session) tell(ref uint32, r *refusal) {
	s.d.refused.Add(1)
	s.write(r.message(ref), door.Reply)
}

// write queues a message. Any goroutine may call it.
func (s *session) write(m *protocol.ToPeer, class door.Class) bool {
	b, ok := s.c.Begin()
	if !ok {
		return false
	}
	start := len(b)
	b, err := proto.MarshalOptions{}.MarshalAppend(b, m)
	if err != nil { // it cannot be: an empty message says nothing
		b = b[:start]
	}
	return s.c.End(b, class)
}

// refBytes names a request of this socket to the relay.
func (s *session) refBytes(ref uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, s.nonce), ref)
}

// refOf reads refBytes. It reports false for those of another socket.
func (s *session) refOf(b []byte) (uint32, bool) {
	if len(b) != 8 || binary.BigEndian.Uint32(b) != s.nonce {
		return 0, false
	}
	return binary.BigEndian.Uint32(b[4:]), true
}
