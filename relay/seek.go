package relay

import (
	"context"
	"slices"

	"github.com/peerservers/peerserver/protocol"
)

// maxTries is how often a message is sent to a node that turns out not to have
// its member.
const maxTries = 3

// seek is a member that is not known, and the messages that wait for it.
type seek struct {
	queue []sought
}

// sought is a message that waits.
type sought struct {
	m       *Member
	kind    Kind
	ref     []byte
	payload []byte
	until   instant
	seq     uint64 // by which it was sent to a node in vain, 0: it was not sent yet
	tries   uint8
}

// waits is what one member has waiting.
type waits struct{ messages, bytes, names int }

// routesByName makes the app one whose members are looked for by their ids.
func (s *swarm) routesByName() {
	s.found = expiring[string, *remote]{period: ns(protocol.FoundFor), max: protocol.MaxFound}
}

// byName says whether members of the app are looked for by their ids.
func (s *swarm) byName() bool { return s.found.max > 0 }

// sendWaiting is Send of a message that may wait.
func (s *swarm) sendWaiting(m *Member, msg Message) protocol.Code {
	if !s.byName() {
		s.routesByName()
	}
	w := sought{m: m, kind: msg.Kind, ref: msg.Ref, payload: msg.Payload}
	t, rem := s.locate(msg.To)
	if s.seeks[msg.To] != nil {
		return s.wait(msg.To, w, true) // in order
	}
	if t != nil {
		return s.hand(t, m, msg)
	}
	if rem == nil {
		rem = s.foundOn(msg.To)
	}
	if rem == nil && msg.At != (protocol.NodeTag{}) {
		if rem = s.tagged(msg.At); rem == nil {
			s.reach(msg.At)
		}
	}
	if rem == nil {
		return s.wait(msg.To, w, true)
	}
	code := s.sendSought(rem, msg.To, &w)
	if code == protocol.CodeNodeGone {
		return s.wait(msg.To, w, true)
	}
	return code
}

func (s *swarm) sendSought(rem *remote, to string, w *sought) protocol.Code {
	if s.remotes[rem.l] != rem {
		return protocol.CodeNodeGone // an orphan's
	}
	msg := Message{Kind: w.kind, To: to, Ref: w.ref, Payload: w.payload}
	_, code := rem.l.sendEncoded(outgoing{kind: kindSignal, owner: w.m, rem: rem, waits: true, tries: w.tries}, encodeSignal(rem.theirs, to, w.m.id, &msg))
	return code
}

// foundOn is the node that has a member, as far as that is remembered.
func (s *swarm) foundOn(id string) *remote {
	rem, ok := s.found.get(id, s.r.now())
	if !ok || s.remotes[rem.l] != rem {
		return nil
	}
	return rem
}

// heardOf remembers where a member is that sent something, unless it is known.
func (s *swarm) heardOf(id []byte, rem *remote, now instant) {
	if s.foundOn(string(id)) == nil {
		s.found.put(string(id), rem, now)
	}
}

// tagged is the node of that tag, nil if it does not serve the app.
func (s *swarm) tagged(tag protocol.NodeTag) *remote {
	for l, rem := range s.remotes {
		if l.node.Tag() == tag && rem.theirs != 0 {
			return rem
		}
	}
	return nil
}

// reach dials the node of a tag, if its record is known and it is not linked.
func (s *swarm) reach(tag protocol.NodeTag) {
	r := s.r
	r.mu.Lock()
	var rec *protocol.Record
	for id, n := range r.mesh.nodes {
		if id.Tag() == tag && r.links[id] == nil {
			rec = n.record
			break
		}
	}
	r.mu.Unlock()
	if rec != nil {
		r.goWhileServing(func(context.Context) { r.found(s.app, rec) })
	}
}

// wait has a message wait for a member, and asks for it if nobody did yet. The
// bytes of a fresh one are the caller's, and copied.
func (s *swarm) wait(to string, w sought, fresh bool) protocol.Code {
	if t := s.find(to); t != nil {
		return s.hand(t, w.m, Message{Kind: w.kind, Ref: w.ref, Payload: w.payload})
	}
	sk := s.seeks[to]
	first := sk == nil || !slices.ContainsFunc(sk.queue, func(o sought) bool { return o.m == w.m })
	n, size := s.waiters[w.m], len(w.payload)
	if n.messages >= protocol.MaxWaiting || n.bytes+size > protocol.WaitingBytes || (first && n.names >= protocol.MaxWaitingFor) ||
		s.r.heldBytes.Load()+int64(size) > protocol.HeldBytes {
		return protocol.CodeFull
	}
	now := s.r.now()
	if fresh {
		w.ref, w.payload = slices.Clone(w.ref), slices.Clone(w.payload)
	}
	if w.until == 0 {
		w.until = now.add(protocol.SignalWait)
	}
	if sk == nil {
		sk = new(seek)
		if s.seeks == nil {
			s.seeks, s.waiters = make(map[string]*seek), make(map[*Member]waits)
		}
		s.seeks[to] = sk
		s.watchNames()
		for _, rem := range s.remotes {
			s.ask(rem, to)
		}
	}
	sk.add(w)
	n.messages, n.bytes = n.messages+1, n.bytes+size
	if first {
		n.names++
	}
	s.waiters[w.m] = n
	s.r.heldBytes.Add(int64(size))
	return protocol.CodeOK
}

// add keeps the messages of one member in order: those that were sent in vain
// come before those that were not sent yet. All expire with the first.
func (sk *seek) add(w sought) {
	at := len(sk.queue)
	for i, o := range slices.Backward(sk.queue) {
		if o.m != w.m {
			continue
		}
		w.until = min(w.until, o.until)
		if w.seq != 0 && (o.seq == 0 || o.seq > w.seq) {
			at = i
		}
	}
	sk.queue = slices.Insert(sk.queue, at, w)
}

// ask asks a node for a member.
func (s *swarm) ask(rem *remote, name string) {
	if rem.theirs != 0 {
		rem.l.send(outgoing{kind: kindControl}, &protocol.Frame{Body: &protocol.Frame_Find{Find: &protocol.Find{App: rem.theirs, Name: []byte(name)}}})
	}
}

// onFind answers a node that looks for a member, now or when it comes.
func (r *Relay) onFind(l *link, f *protocol.Find) {
	rem := l.remote(f.App)
	if rem == nil || len(f.Name) == 0 || len(f.Name) > protocol.MaxMemberID {
		return
	}
	s := rem.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.findBytes(f.Name); t != nil {
		s.sayHeld(rem, t.id)
		return
	}
	if rem.seeks.max == 0 {
		rem.seeks = expiring[string, struct{}]{period: ns(protocol.SignalWait), max: protocol.MaxSought}
	}
	rem.seeks.put(string(f.Name), struct{}{}, r.now())
}

func (s *swarm) sayHeld(rem *remote, name string) {
	rem.l.send(outgoing{kind: kindControl}, &protocol.Frame{Body: &protocol.Frame_Holds{Holds: &protocol.Holds{App: rem.theirs, Name: []byte(name), Held: true}}})
}

// arrived hands a member that came what waited for it, and tells the nodes that
// asked for it.
func (s *swarm) arrived(m *Member, now instant) {
	for _, rem := range s.remotes {
		if rem.seeks.max == 0 {
			continue
		}
		if _, asked := rem.seeks.take(m.id, now); asked {
			s.sayHeld(rem, m.id)
		}
	}
	for _, w := range s.takeSeek(m.id) {
		if w.m.at < 0 {
			continue
		}
		if code := s.hand(m, w.m, Message{Kind: w.kind, Ref: w.ref, Payload: w.payload}); code != protocol.CodeOK {
			w.m.sink.Deliver(&Event{Kind: KindFailed, From: m.id, Ref: w.ref, Code: code})
		}
	}
}

// foundAt sends what waited for a member to the node that has it.
func (s *swarm) foundAt(name string, rem *remote, now instant) {
	if s.seeks[name] == nil {
		return // nobody asks any more
	}
	s.found.put(name, rem, now)
	for _, w := range s.takeSeek(name) {
		if w.m.at < 0 {
			continue
		}
		if code := s.sendSought(rem, name, &w); code != protocol.CodeOK {
			w.m.sink.Deliver(&Event{Kind: KindFailed, From: name, Ref: w.ref, Code: code})
		}
	}
}

func (s *swarm) takeSeek(name string) []sought {
	sk := s.seeks[name]
	if sk == nil {
		return nil
	}
	delete(s.seeks, name)
	s.unwait(sk.queue)
	return sk.queue
}

// unwait takes messages of one seek off their members' counts: all there are of
// these members.
func (s *swarm) unwait(list []sought) {
	named := make(map[*Member]bool)
	for _, w := range list {
		n := s.waiters[w.m]
		n.messages, n.bytes = n.messages-1, n.bytes-len(w.payload)
		if !named[w.m] {
			named[w.m] = true
			n.names--
		}
		if n.messages == 0 {
			delete(s.waiters, w.m)
		} else {
			s.waiters[w.m] = n
		}
		s.r.heldBytes.Add(-int64(len(w.payload)))
	}
}

// again has a message wait that was sent to a node in vain; e is how it was
// sent. It reports false when the message is to fail.
func (s *swarm) again(e *outgoing, f *protocol.Signal, code protocol.Code) bool {
	now := s.r.now()
	until := e.at.add(protocol.SignalWait)
	if !e.waits || e.tries >= maxTries || e.owner.at < 0 || now >= until || (code != protocol.CodeUnknownPeer && code != protocol.CodeNodeGone) {
		return false
	}
	to := string(f.To)
	if s.foundOn(to) == e.rem {
		s.found.take(to, now)
	}
	return s.wait(to, sought{
		m: e.owner, kind: fromWire[f.Kind], ref: f.Ref, payload: f.Payload, until: until, seq: e.seq, tries: e.tries + 1,
	}, false) == protocol.CodeOK
}

// expireWaiting tells members that what they sent is not going to arrive, once
// for each one that it was for.
func (s *swarm) expireWaiting(now instant) {
	for name, sk := range s.seeks {
		var over []sought
		sk.queue = slices.DeleteFunc(sk.queue, func(w sought) bool {
			late := now >= w.until || w.m.at < 0
			if late {
				over = append(over, w)
			}
			return late
		})
		if len(sk.queue) == 0 {
			delete(s.seeks, name)
		}
		s.unwait(over)
		told := make(map[*Member]bool)
		for _, w := range over {
			if !told[w.m] && w.m.at >= 0 {
				told[w.m] = true
				w.m.sink.Deliver(&Event{Kind: KindFailed, From: name, Ref: w.ref, Code: protocol.CodeExpired})
			}
		}
	}
}
