package native

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/relay"
)

// member is one session of a peer in one app, and the sink of its relay.Member.
// It belongs to a socket's session, or to the keeper while that is gone.
type member struct {
	// Static after join.
	d    *Door
	key  key
	id   protocol.Member
	seal [32]byte // others have it from its presence
	m    *relay.Member

	until    time.Time   // when its presence expires; owned by whom the member belongs to
	replaced atomic.Bool // the same session has joined elsewhere

	mu    sync.Mutex
	s     *session           // nil while it is kept, and after
	told  bool               // the reply to the join is out
	early []*protocol.ToPeer // what came before
	held  *held              // while it is kept
}

// maxEarly is more than comes in the microseconds that a join takes.
const maxEarly = 256

func (m *member) kept() kept { return kept{m.key.app, m.id} }

// joined answers a join and shows those who were there, a random sample of a
// large app. Then comes what happened meanwhile.
func (m *member) joined(ref uint32, ice *protocol.IceServers) {
	list, all := m.m.Sample(protocol.PeerSample)
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	m.mu.Lock()
	defer m.mu.Unlock()
	m.s.write(joined(ref, all, false, ice), door.Reply)
	shown := make(map[string]bool)
	for _, o := range list {
		if a := m.arrived(o.ID, o.Blob, o.Node[:], true); a != nil {
			shown[o.ID] = true
			m.s.write(a, door.Reply)
		}
	}
	for _, e := range m.early {
		if a := e.GetArrived(); a != nil && a.Before && shown[memberOf(a.Presence)] {
			continue // it was on the list too
		}
		m.s.write(e, door.Reply)
	}
	m.told, m.early = true, nil
}

func joined(ref uint32, members int, resumed bool, ice *protocol.IceServers) *protocol.ToPeer {
	return &protocol.ToPeer{Ref: ref, Body: &protocol.ToPeer_Joined{Joined: &protocol.Joined{Members: uint32(members), Resumed: resumed, Ice: ice}}}
}

// memberOf is the member id that a presence says it is of, "" when it says none.
func memberOf(p *protocol.SignedPresence) string {
	var b protocol.PresenceBody
	if proto.Unmarshal(p.GetBody(), &b) != nil {
		return ""
	}
	return string(p.Key) + string(b.Session)
}

// Deliver implements relay.Sink.
func (m *member) Deliver(e *relay.Event) bool {
	if e.Kind == relay.KindReplaced {
		m.replaced.Store(true)
		return true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.s == nil {
		return m.hold(e)
	}
	out, class := m.translate(e)
	if out == nil {
		return e.Kind == relay.KindFailed // of an earlier connection
	}
	if !m.told {
		if len(m.early) == maxEarly {
			return false
		}
		m.early = append(m.early, out)
		return true
	}
	return m.s.write(out, class)
}

// translate makes an event what the client is told, nil when there is nothing.
// mu is held.
func (m *member) translate(e *relay.Event) (*protocol.ToPeer, door.Class) {
	switch e.Kind {
	case relay.KindJoined, relay.KindPresent:
		if a := m.arrived(e.From, e.Payload, e.Ref, e.Kind == relay.KindPresent); a != nil {
			return a, door.Reply
		}
	case relay.KindLeft, relay.KindLost:
		return m.departed(e.From, e.Kind == relay.KindLost), door.Reply
	case relay.KindDirect, relay.KindData:
		class := door.Reply
		if e.Kind == relay.KindData {
			class = door.Offer
		}
		envelope := new(protocol.Envelope)
		if proto.Unmarshal(e.Payload, envelope) != nil {
			return nil, class
		}
		return &protocol.ToPeer{Body: &protocol.ToPeer_Delivered{Delivered: &protocol.Delivered{
			App: m.key.app[:], Session: m.key.session[:], From: []byte(e.From), Envelope: envelope,
		}}}, class
	case relay.KindPublish:
		envelope := new(protocol.Envelope)
		if proto.Unmarshal(e.Payload, envelope) != nil {
			return nil, door.Reply
		}
		return &protocol.ToPeer{Body: &protocol.ToPeer_Broadcast{Broadcast: &protocol.Broadcast{
			App: m.key.app[:], Session: m.key.session[:], Envelope: envelope,
		}}}, door.Reply
	case relay.KindFailed:
		if ref, ok := m.s.refOf(e.Ref); ok {
			m.d.refused.Add(1)
			return refuseSend(e.Code).message(ref), door.Reply
		}
	}
	return nil, door.Reply
}

// arrived shows a member. Of a presence that came from another node only the
// form is looked at: the peer that is shown it checks the signature, which is
// too much work to be done here once for each of those who watch.
func (m *member) arrived(id string, blob, node []byte, before bool) *protocol.ToPeer {
	signed := new(protocol.SignedPresence)
	if proto.Unmarshal(blob, signed) != nil || memberOf(signed) != id {
		return nil
	}
	return &protocol.ToPeer{Body: &protocol.ToPeer_Arrived{Arrived: &protocol.Arrived{
		App: m.key.app[:], Session: m.key.session[:], Presence: signed, Before: before, Node: bytes.Clone(node),
	}}}
}

func (m *member) departed(id string, lost bool) *protocol.ToPeer {
	return &protocol.ToPeer{Body: &protocol.ToPeer_Departed{Departed: &protocol.Departed{
		App: m.key.app[:], Session: m.key.session[:], Member: []byte(id), Lost: lost,
	}}}
}
