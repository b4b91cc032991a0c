package native

import (
	"encoding/binary"
	"errors"
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
	host      string // that the request was for
	challenge *protocol.Challenge

	mu      sync.Mutex
	peer    protocol.PeerID // zero before the login
	members map[key]*member
}

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
		s.refuse(0, protocol.Errorf(protocol.CodeMalformed, "a message that does not parse"))
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.act(&m); err != nil {
		s.refuse(m.Ref, err)
	}
}

// Refuse implements door.Session.
func (s *session) Refuse(code protocol.Code) {
	if code == protocol.CodeRate {
		s.refuse(0, protocol.Errorf(code, "too many messages; wait before the next connection"))
		return
	}
	s.refuse(0, protocol.Errorf(code, "a message is over %d bytes", protocol.MaxMessage))
}

func (s *session) act(m *protocol.ToNode) *protocol.Error {
	if login, ok := m.Body.(*protocol.ToNode_Login); ok {
		return s.login(m.Ref, login.Login)
	}
	if s.peer == (protocol.PeerID{}) {
		return protocol.Errorf(protocol.CodeDenied, "log in first")
	}
	switch b := m.Body.(type) {
	case *protocol.ToNode_Join:
		return s.join(m.Ref, b.Join)
	case *protocol.ToNode_Part:
		return s.part(m.Ref, b.Part)
	case *protocol.ToNode_Send:
		return s.send(m.Ref, b.Send)
	case *protocol.ToNode_Beat:
		s.done(m.Ref)
		return nil
	}
	return protocol.Errorf(protocol.CodeMalformed, "a request of a kind that this node does not know")
}

func (s *session) login(ref uint32, l *protocol.Login) *protocol.Error {
	if s.peer != (protocol.PeerID{}) {
		return protocol.Errorf(protocol.CodeMalformed, "there was a login before")
	}
	id, err := l.Verify(s.challenge)
	if err != nil {
		return asError(err)
	}
	if !s.d.cfg.IsOwn(l.Url, s.host) {
		return protocol.Errorf(protocol.CodeDenied, "login: the URL that was dialled is not this node's; its operator has to name it with --url")
	}
	s.peer = id
	s.write(&protocol.ToPeer{Ref: ref, Body: &protocol.ToPeer_Welcome{Welcome: &protocol.Welcome{Nodes: s.d.cfg.Nodes()}}}, door.Reply)
	return nil
}

func (s *session) join(ref uint32, j *protocol.Join) *protocol.Error {
	if len(j.App) != len(protocol.AppID{}) {
		return protocol.Errorf(protocol.CodeMalformed, "join: an app has 20 bytes")
	}
	app := protocol.AppID(j.App)
	p, err := j.Presence.Verify(app)
	if err != nil {
		return asError(err)
	}
	if p.Member.Peer != s.peer {
		return protocol.Errorf(protocol.CodeDenied, "join: the presence is somebody else's")
	}
	blob, err := proto.Marshal(p.Signed)
	if err != nil || len(blob) > protocol.MaxBlob {
		return protocol.Errorf(protocol.CodeTooLarge, "join: the presence is over %d bytes", protocol.MaxBlob)
	}
	k := key{app, p.Member.Session}
	old := s.members[k]
	if old == nil && !s.c.TakeMember() {
		return protocol.Errorf(protocol.CodeRate, "join: too many apps on this connection or from this address")
	}
	m := &member{s: s, key: k, until: time.Now().Add(p.TTL)}
	m.m, err = s.d.cfg.Relay.Join(app, relay.Joining{
		ID: string(p.Member.Bytes()), Sink: m, Present: true, WantsPresence: true, TakesOffers: true, Subscriber: true, Blob: blob,
	})
	switch {
	case err != nil && old == nil:
		s.c.DropMember()
		return asError(err)
	case err != nil:
		return asError(err) // and the old one stays
	case old == nil:
		s.d.members.Add(1)
	}
	s.members[k] = m // it takes the old one's place: nobody was told that it left
	m.joined(ref)
	return nil
}

func (s *session) part(ref uint32, p *protocol.Part) *protocol.Error {
	k, m, err := s.member(p.App, p.Session)
	if err != nil {
		return err
	}
	s.drop(k, m)
	s.done(ref)
	return nil
}

func (s *session) send(ref uint32, q *protocol.Send) *protocol.Error {
	_, m, err := s.member(q.App, q.Session)
	if err != nil {
		return err
	}
	if _, err := protocol.ParseMember(q.To); err != nil {
		return asError(err)
	}
	payload, merr := proto.Marshal(q.Envelope)
	if merr != nil || len(payload) == 0 || len(payload) > protocol.MaxPayload {
		return protocol.Errorf(protocol.CodeTooLarge, "send: an envelope has 1 to %d bytes", protocol.MaxPayload)
	}
	kind := relay.KindDirect
	if q.Data {
		kind = relay.KindData
	}
	if code := m.m.Send(relay.Message{Kind: kind, To: string(q.To), Ref: refBytes(ref), Payload: payload}); code != protocol.CodeOK {
		return protocol.Errorf(code, "send: %s", sentence(code))
	}
	s.d.sends.Add(1)
	s.done(ref)
	return nil
}

func (s *session) member(app, session []byte) (key, *member, *protocol.Error) {
	if len(app) == len(protocol.AppID{}) && len(session) == len(protocol.Session{}) {
		k := key{protocol.AppID(app), protocol.Session(session)}
		if m := s.members[k]; m != nil {
			return k, m, nil
		}
	}
	return key{}, nil, protocol.Errorf(protocol.CodeUnknownPeer, "this connection has not joined that app with that session")
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

// Closed implements door.Session: all memberships of the socket end.
func (s *session) Closed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, m := range s.members {
		s.drop(k, m)
	}
	s.d.sessions.Add(-1)
}

func (s *session) done(ref uint32) {
	if ref != 0 {
		s.write(&protocol.ToPeer{Ref: ref, Body: &protocol.ToPeer_Done{Done: &protocol.Done{}}}, door.Reply)
	}
}

func (s *session) refuse(ref uint32, err *protocol.Error) {
	s.d.refused.Add(1)
	s.write(refused(ref, err.Code, err.Text), door.Reply)
}

// refused says when to try again, where that helps.
func refused(ref uint32, code protocol.Code, text string) *protocol.ToPeer {
	r := &protocol.Refused{Code: uint32(code), Text: text}
	switch code {
	case protocol.CodeRate, protocol.CodeFull:
		r.RetryAfter = 1000
	case protocol.CodeNodeGone:
		r.RetryAfter = uint32(protocol.GiveUpPresence / time.Millisecond)
	}
	return &protocol.ToPeer{Ref: ref, Body: &protocol.ToPeer_Refused{Refused: r}}
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

func refBytes(ref uint32) []byte { return binary.BigEndian.AppendUint32(nil, ref) }

// asError is what a client is told of an error: its code, or that it is ours.
func asError(err error) *protocol.Error {
	if e, ok := errors.AsType[*protocol.Error](err); ok {
		return e
	}
	return protocol.Errorf(protocol.CodeInternal, "internal")
}

func sentence(code protocol.Code) string {
	switch code {
	case protocol.CodeUnknownPeer:
		return "no such member"
	case protocol.CodeNodeGone:
		return "the member's node is not reached"
	case protocol.CodeFull:
		return "the member does not keep up"
	}
	return code.String()
}
