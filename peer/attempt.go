package peer

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/pion/webrtc/v4"
	"google.golang.org/protobuf/proto"

	"github.com/peerservers/peerserver/protocol"
)

// The labels of the channels that every connection has, by their ids.
var laneLabels = [2]string{laneMain: "peerserver", laneControl: "peerserver.control"}

// attempt is one WebRTC connection, from its first description to its end. A
// Peer that is relayed outlives those that lead nowhere.
type attempt struct {
	// Static.
	m       *member
	p       *Peer
	pc      *webrtc.PeerConnection
	lanes   [2]*Channel
	shown   chan struct{} // closed when it carries its peer
	started chan struct{} // closed with the other side's Start
	done    chan struct{} // closed before the connection is
	few     bool          // servers, of those that there are
	facts   *facts        // of what ways there could be

	opening atomic.Int32 // lanes that are not open
	closing atomic.Int32 // lanes that have closed

	// Owned by the member's goroutine.
	offer   uint64                    // sequence of our newest offer, 0: there was none
	again   uint64                    // and of its last repetition
	repeats int                       // how many there were
	heard   uint64                    // sequence of the newest description of the other side
	remote  bool                      // the other side's description is set
	open    bool                      // it carries its peer
	over    bool                      // it did, and a goodbye may come yet
	found   bool                      // a candidate of ours
	wants   bool                      // there is something to negotiate
	late    bool                      // it was given more time before there are more servers
	local   []webrtc.ICECandidateInit // ours that have not gone out
	pending []webrtc.ICECandidateInit // theirs that came before their description

	restarts   int       // since it was connected
	restarted  time.Time // the last time
	stale      bool      // our newest offer has addresses of another network
	configured time.Time // with the servers that it has
}

// finds takes a candidate of ours, to be sent.
func (a *attempt) finds(c webrtc.ICECandidateInit) {
	a.found, a.local = true, append(a.local, c)
	if a.facts.learn(&a.facts.ours, c.Candidate) == "udp" {
		a.m.r.servers.worked()
	}
}

// configure has the next ICE restart use the servers that there are now.
func (a *attempt) configure() error {
	a.configured = time.Now()
	return a.pc.SetConfiguration(webrtc.Configuration{ICEServers: a.m.r.servers.list(a.few, a.configured)})
}

// attempt makes a connection with its lanes.
func (m *member) attempt() (*attempt, error) {
	few := m.tries <= 1
	pc, err := m.r.api.NewPeerConnection(webrtc.Configuration{ICEServers: m.r.servers.list(few, time.Now())})
	if err != nil {
		return nil, err
	}
	a := &attempt{
		m: m, p: m.ensure(), pc: pc, few: few, facts: new(facts), configured: time.Now(),
		shown: make(chan struct{}), started: make(chan struct{}), done: make(chan struct{}),
	}
	a.p.tries(a.facts)
	a.opening.Store(int32(len(a.lanes)))
	m.a = a
	for id := range a.lanes {
		if err := a.addLane(id); err != nil {
			return nil, errors.Join(err, pc.Close())
		}
	}
	a.watch()
	return a, nil
}

func (a *attempt) addLane(id int) error {
	negotiated, number := true, uint16(id)
	dc, err := a.pc.CreateDataChannel(laneLabels[id], &webrtc.DataChannelInit{Negotiated: &negotiated, ID: &number})
	if err != nil {
		return err
	}
	a.lanes[id] = newChannel(a.p, dc)
	dc.OnOpen(func() {
		if a.opening.Add(-1) == 0 {
			a.post(event{kind: eventOpen})
		}
	})
	dc.OnClose(a.closes)
	if id == laneMain {
		dc.OnMessage(func(msg webrtc.DataChannelMessage) {
			if a.carries() {
				a.p.hand(incoming{data: msg.Data})
			}
		})
		return nil
	}
	dc.OnMessage(func(msg webrtc.DataChannelMessage) { a.control(msg.Data) })
	return nil
}

// closes is called when all messages of a lane have been taken, and none will
// come. The other lane may still have some, such as a goodbye.
func (a *attempt) closes() {
	kind := eventClosing
	if int(a.closing.Add(1)) == len(a.lanes) {
		kind = eventClosed
	}
	a.post(event{kind: kind})
}

func (a *attempt) watch() {
	pc := a.pc
	pc.OnDataChannel(func(dc *webrtc.DataChannel) {
		if a.carries() {
			a.p.accept(dc)
		}
	})
	pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		// One that is closed may still have messages; its channel closes after them.
		if s == webrtc.PeerConnectionStateFailed {
			a.post(event{kind: eventClosed})
		}
	})
	pc.OnICEConnectionStateChange(func(s webrtc.ICEConnectionState) {
		switch s {
		case webrtc.ICEConnectionStateDisconnected:
			a.post(event{kind: eventShaky})
		case webrtc.ICEConnectionStateConnected, webrtc.ICEConnectionStateCompleted:
			a.post(event{kind: eventSteady})
		}
	})
	pc.SCTP().Transport().ICETransport().OnSelectedCandidatePairChange(func(*webrtc.ICECandidatePair) {
		a.post(event{kind: eventPath})
	})
	pc.OnNegotiationNeeded(func() { a.post(event{kind: eventNegotiate}) })
	pc.OnICECandidate(func(c *webrtc.ICECandidate) {
		if c == nil {
			a.post(event{kind: eventGathered})
			return
		}
		a.post(event{kind: eventCandidate, candidate: c.ToJSON()})
	})
}

// post tells the member's goroutine, which is there until done is closed.
func (a *attempt) post(e event) {
	e.a = a
	select {
	case a.m.events <- e:
	case <-a.done:
	}
}

// carries waits until the connection carries its peer and the other side says
// that nothing comes before it any more; false: that is never.
func (a *attempt) carries() bool {
	for _, c := range []chan struct{}{a.started, a.shown} {
		select {
		case <-c:
		case <-a.done:
			return false
		}
	}
	return true
}

// control takes a message of the control channel: what was left of a relay,
// then Start, then all else.
func (a *attempt) control(b []byte) {
	c := new(protocol.Control)
	if proto.Unmarshal(b, c) != nil {
		return
	}
	select {
	case <-a.started:
		if a.carries() {
			a.p.take(c)
		}
		return
	default:
	}
	switch body := c.Body.(type) {
	case *protocol.Control_Piece:
		a.p.relaying().over(a, handover{piece: body.Piece})
	case *protocol.Control_Start:
		a.start(body.Start.GetRun())
	}
}

// start takes the other side's Start. Its run has to be that of the Pieces that
// came: if it is not, one of the two has forgotten the other, and both begin
// anew.
func (a *attempt) start(run uint64) {
	a.p.mu.Lock()
	rl := a.p.relay
	a.p.mu.Unlock()
	if rl == nil {
		a.begin(run == 0)
		return
	}
	decided := make(chan struct{})
	rl.over(a, handover{run: run, start: func(ok bool) {
		a.begin(ok)
		close(decided)
	}})
	select {
	case <-decided:
	case <-a.done:
	}
}

func (a *attempt) begin(ok bool) {
	if ok {
		close(a.started)
	} else {
		a.post(event{kind: eventRefused})
	}
}

// over gives the relay something that came over a connection.
func (rl *relay) over(a *attempt, h handover) {
	select {
	case rl.fromPeer <- h:
	case <-a.done:
	case <-rl.p.done:
	}
}

// carry has a connection that is open carry the peer: it says what was not
// acknowledged over nodes, then Start.
func (p *Peer) carry(a *attempt) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	start := new(protocol.Start)
	var rest []*protocol.Piece
	if p.relay != nil && p.relay.out.last > 0 {
		start.Run, rest = p.relay.out.run, p.relay.out.handOver()
	}
	control := a.lanes[laneControl].dc
	for _, piece := range rest {
		if err := sendControl(control, &protocol.Control{Body: &protocol.Control_Piece{Piece: piece}}); err != nil {
			return err
		}
	}
	if err := sendControl(control, &protocol.Control{Body: &protocol.Control_Start{Start: start}}); err != nil {
		return err
	}
	p.pc, p.lanes = a.pc, a.lanes
	p.hasChanged()
	close(p.direct)
	return nil
}

func sendControl(dc *webrtc.DataChannel, c *protocol.Control) error {
	b, err := proto.Marshal(c)
	if err != nil {
		return err
	}
	return dc.Send(b)
}

// end closes the connection. One that carries the peer is waited for; another one
// may have a server that does not answer, for which pion waits.
func (a *attempt) end() {
	close(a.done)
	a.p.facts.Store(a.facts)
	if a.open {
		a.close()
	} else {
		a.m.r.working.Go(a.close)
	}
}

func (a *attempt) close() {
	if err := a.pc.GracefulClose(); err != nil {
		a.m.r.log.Debug("a connection does not close", "peer", a.m.id.Peer.Short())
	}
}
