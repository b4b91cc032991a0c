package relay

import (
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/flynn/noise"

	"github.com/peerservers/peerserver/protocol"
)

// A node asks those it is linked to whether its ports are reached from outside.
// Who is asked tries the address it sees the link come from and nothing else, so
// that no node can be aimed at somebody who never asked for it.

const (
	// maxProbing is how many Probes of others are tried at once.
	maxProbing = 16
	// probeAnswer is how long the answer to a Probe of ours may take: what the
	// other node tries, and the way there and back.
	probeAnswer = protocol.ProbeTime + 5*time.Second
)

// question is a Probe of ours that waits for its answer.
type question struct {
	w      *wire
	nonce  uint64
	answer chan protocol.Probe_Outcome // one fits
}

// Probe asks a linked node to try, from outside, either a URL of this one or its
// STUN port. At most one question of a link is open at a time. The outcome is
// REACHED, FAILED or REFUSED; an error says that there is none: CodeNodeGone
// without a link, CodeRate while another question is open, the context's without
// an answer in time.
func (r *Relay) Probe(ctx context.Context, node protocol.NodeID, url string, stunPort uint16) (protocol.Probe_Outcome, error) {
	r.mu.Lock()
	l := r.links[node]
	r.mu.Unlock()
	if l == nil {
		return 0, protocol.Errorf(protocol.CodeNodeGone, "probe: %s is not linked", node.Short())
	}
	q, err := l.ask(url, stunPort)
	if err != nil {
		return 0, err
	}
	defer l.asks(q)
	ctx, cancel := context.WithTimeout(ctx, probeAnswer)
	defer cancel()
	select {
	case outcome := <-q.answer:
		return outcome, nil
	case <-q.w.done:
		return 0, protocol.Errorf(protocol.CodeNodeGone, "probe: the link to %s ended", node.Short())
	case <-ctx.Done():
		return 0, fmt.Errorf("probe: %s has not answered: %w", node.Short(), ctx.Err())
	}
}

// ask sends the question.
func (l *link) ask(url string, stunPort uint16) (*question, error) {
	var b [8]byte
	crand.Read(b[:])
	q := &question{nonce: binary.BigEndian.Uint64(b[:]) | 1, answer: make(chan protocol.Probe_Outcome, 1)}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.w == nil || !l.w.resumed:
		return nil, protocol.Errorf(protocol.CodeNodeGone, "probe: %s is not linked", l.node.Short())
	case l.asked != nil:
		return nil, protocol.Errorf(protocol.CodeRate, "probe: %s is being asked already", l.node.Short())
	}
	l.asked, q.w = q, l.w
	l.w.looseFrame(&protocol.Frame{Body: &protocol.Frame_Probe{Probe: &protocol.Probe{Nonce: q.nonce, Url: url, StunPort: uint32(stunPort)}}})
	return q, nil
}

// asks ends the question.
func (l *link) asks(q *question) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.asked == q {
		l.asked = nil
	}
}

// onProbe takes an answer, or a question.
func (r *Relay) onProbe(l *link, w *wire, f *protocol.Probe) {
	switch f.Outcome {
	case protocol.Probe_OUTCOME_UNSPECIFIED:
		if f.Nonce != 0 {
			r.onQuestion(l, w, f)
		}
	case protocol.Probe_OUTCOME_REACHED, protocol.Probe_OUTCOME_FAILED, protocol.Probe_OUTCOME_REFUSED:
		l.mu.Lock()
		defer l.mu.Unlock()
		if q := l.asked; q != nil && q.w == w && q.nonce == f.Nonce {
			l.asked = nil
			q.answer <- f.Outcome
		}
	}
}

// onQuestion tries what is asked for beside the link's reader, or refuses.
func (r *Relay) onQuestion(l *link, w *wire, f *protocol.Probe) {
	try, outcome := r.judge(l, w, f)
	if try == nil || !l.mayProbe(r.now()) {
		w.outcome(f.Nonce, outcome)
		return
	}
	select {
	case r.tries <- struct{}{}:
	default:
		l.probed()
		w.outcome(f.Nonce, protocol.Probe_OUTCOME_REFUSED)
		return
	}
	run := func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, protocol.ProbeTime)
		defer cancel()
		outcome := try(ctx)
		<-r.tries
		l.probed()
		w.outcome(f.Nonce, outcome)
	}
	if !r.goWhileServing(run) {
		<-r.tries
		l.probed()
	}
}

// judge says how to try what is asked for, or if try is nil what is known of it
// already.
func (r *Relay) judge(l *link, w *wire, f *protocol.Probe) (try func(context.Context) protocol.Probe_Outcome, known protocol.Probe_Outcome) {
	const refused = protocol.Probe_OUTCOME_REFUSED
	if (f.Url == "") == (f.StunPort == 0) || f.StunPort > 65535 {
		return nil, refused
	}
	if f.StunPort != 0 {
		port := uint16(f.StunPort)
		if r.cfg.TrySTUN == nil || !r.mayTry(w.remote, port) {
			return nil, refused
		}
		return func(ctx context.Context) protocol.Probe_Outcome {
			if r.cfg.TrySTUN(ctx, netip.AddrPortFrom(w.remote, port)) {
				return protocol.Probe_OUTCOME_REACHED
			}
			return protocol.Probe_OUTCOME_FAILED
		}, refused
	}
	url, err := protocol.ParseLinkURL(f.Url)
	if err != nil {
		return nil, refused
	}
	l.mu.Lock()
	here := w.dialed && l.url == url.String()
	l.mu.Unlock()
	switch ip, err := netip.ParseAddr(url.Host); {
	case here:
		return nil, protocol.Probe_OUTCOME_REACHED
	case r.cfg.Dialer == nil || !r.mayTry(w.remote, url.Port) || (err == nil && ip != w.remote):
		return nil, refused
	}
	return func(ctx context.Context) protocol.Probe_Outcome { return r.knock(ctx, l.node, url, w.remote) }, refused
}

// mayTry is the dial policy of an address that a link comes from.
func (r *Relay) mayTry(at netip.Addr, port uint16) bool {
	return at.IsValid() && (r.cfg.AllowPrivate || protocol.Public(at)) && (port >= 1024 || port == 80 || port == 443)
}

// mayProbe takes one of the link's tries, which probed gives back.
func (l *link) mayProbe(now instant) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.probing {
		return false
	}
	ok, _ := l.probes.take(1, protocol.ProbesPerLink/60.0, protocol.ProbesPerLink, now)
	l.probing = ok
	return ok
}

func (l *link) probed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.probing = false
}

// outcome answers a question, if the connection that it came on is still the
// link's.
func (w *wire) outcome(nonce uint64, outcome protocol.Probe_Outcome) {
	w.l.mu.Lock()
	defer w.l.mu.Unlock()
	w.looseFrame(&protocol.Frame{Body: &protocol.Frame_Probe{Probe: &protocol.Probe{Nonce: nonce, Outcome: outcome}}})
}

// knock dials a node and has it prove its key, which the second message of the
// handshake does. The third is not sent: the node would take it for a link that
// replaces the one that there is.
func (r *Relay) knock(ctx context.Context, node protocol.NodeID, url protocol.LinkURL, at netip.Addr) protocol.Probe_Outcome {
	c, err := r.cfg.Dialer.DialAt(ctx, url, at)
	if e := new(protocol.Error); asError(err, &e) && (e.Code == protocol.CodeRefused || e.Code == protocol.CodeRate) {
		return protocol.Probe_OUTCOME_REFUSED // by our dial policy
	}
	if err != nil {
		return protocol.Probe_OUTCOME_FAILED
	}
	defer c.Close(1000)
	stop := context.AfterFunc(ctx, func() { c.Close(closeGoingAway) })
	defer stop()
	if l, ok := c.(readLimiter); ok {
		l.limitRead(protocol.MaxHello)
	}
	if who, err := greet(c, r.id); err != nil || who != node {
		return protocol.Probe_OUTCOME_FAILED
	}
	if p, ok := c.(interface{ proved() }); ok {
		p.proved()
	}
	return protocol.Probe_OUTCOME_REACHED
}

// greet is the handshake's first two messages, and who the other node is.
func greet(c Conn, id *identity) (protocol.NodeID, error) {
	hs, err := noise.NewHandshakeState(noise.Config{
		CipherSuite: linkSuite(), Pattern: noise.HandshakeXX, Initiator: true,
		Prologue: []byte(protocol.NoisePrologue), StaticKeypair: id.static,
	})
	if err != nil {
		return protocol.NodeID{}, err
	}
	if _, _, err := writeShake(c, hs, nil); err != nil {
		return protocol.NodeID{}, err
	}
	payload, _, _, err := readShake(c, hs)
	if err != nil {
		return protocol.NodeID{}, err
	}
	g, err := readHello(payload, hs.PeerStatic(), protocol.Responder, id.node)
	if err != nil {
		return protocol.NodeID{}, err
	}
	return g.node, nil
}
