package peer

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
	"google.golang.org/protobuf/proto"

	"github.com/peerservers/peerserver/protocol"
)

const (
	path        = "/v1"
	subprotocol = "peerserver.v1"

	maxFrame     = 2 * protocol.MaxMessage // of a node; the specification has half of it
	stepWithin   = 5 * time.Second         // for each of dialling and joining
	writeWithin  = 10 * time.Second
	beatEvery    = 10 * time.Second
	silentFor    = 25 * time.Second // two beats and their answers lost
	refreshEvery = presenceTTL / 2
	maxWaiting   = 512              // messages for a node that does not read
	doubtAfter   = 10 * time.Second // who is not shown on a new node until then is lost
	maxTotal     = 1 << 30          // members that a node may say there are
)

// What requests are named. Others have no ref.
const (
	refLogin = iota + 1
	refJoin
	refPart
	refBeat
	refRefresh
	refICE

	firstRef = 1 << 16 // of those that are made as they are needed
)

// socket is one connection to a node.
type socket struct {
	// Static after dial.
	url       string
	ws        *websocket.Conn
	challenge *protocol.Challenge
	joined    *protocol.Joined // set by login

	served     chan struct{} // the node has named servers
	asked      atomic.Bool   // for those, and there was no answer yet
	out        chan []byte
	parted     chan struct{} // closed by the reader: the node has seen the leave
	partedOnce sync.Once
	done       chan struct{} // closed by serve: there is no reader
}

// dial connects to a node and has it show itself. A private one is shown a token.
func dial(ctx context.Context, u, token string) (*socket, error) {
	ctx, cancel := context.WithTimeout(ctx, stepWithin)
	defer cancel()
	stop := func() bool { return true }
	d := websocket.Dialer{
		Proxy: http.ProxyFromEnvironment, Subprotocols: []string{subprotocol},
		// The handshake heeds only the deadline of a context, not its end.
		NetDialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err == nil {
				stop = closeWith(ctx, c)
			}
			return c, err
		},
	}
	defer func() { stop() }()
	at := u + path
	if token != "" {
		at += "?token=" + url.QueryEscape(token)
	}
	ws, resp, err := d.DialContext(ctx, at, nil)
	if err != nil {
		return nil, err
	}
	resp.Body.Close()
	ws.SetReadLimit(maxFrame)
	s := &socket{url: u, ws: ws, served: make(chan struct{}, 1), out: make(chan []byte, maxWaiting), parted: make(chan struct{}), done: make(chan struct{})}
	m, err := s.read()
	if err != nil {
		ws.Close()
		return nil, err
	}
	if refused := m.GetRefused(); refused != nil { // a private node, or a full one
		ws.Close()
		return nil, &protocol.Error{Code: protocol.Code(refused.GetCode()), Text: refused.GetText()}
	}
	s.challenge = m.GetChallenge()
	if s.challenge == nil || s.challenge.Version != protocol.Version || len(s.challenge.Nonce) != protocol.ChallengeNonce {
		ws.Close()
		return nil, protocol.Errorf(protocol.CodeVersion, "it does not speak this version")
	}
	return s, nil
}

// closeWith closes c when ctx ends. What it returns ends that, waits for it,
// and reports whether c is still open.
func closeWith(ctx context.Context, c io.Closer) (stop func() bool) {
	closed := make(chan struct{})
	undo := context.AfterFunc(ctx, func() {
		defer close(closed)
		c.Close()
	})
	return sync.OnceValue(func() bool {
		if undo() {
			return true
		}
		<-closed
		return false
	})
}

// login logs in and joins, in one flight.
func (r *Room) login(ctx context.Context, s *socket) error {
	ctx, cancel := context.WithTimeout(ctx, stepWithin)
	defer cancel()
	presence, err := r.presence()
	if err != nil {
		return err
	}
	nonce := make([]byte, protocol.LoginNonce)
	rand.Read(nonce)
	stop := closeWith(ctx, s.ws)
	defer stop()
	login, proven := protocol.SignLogin(r.key, s.challenge, nonce, s.url), false
	for _, m := range []*protocol.ToNode{
		{Ref: refLogin, Body: &protocol.ToNode_Login{Login: login}},
		{Ref: refJoin, Body: &protocol.ToNode_Join{Join: &protocol.Join{App: r.app[:], Presence: presence}}},
	} {
		if err := s.write(m); err != nil {
			return err
		}
	}
	for {
		m, err := s.read()
		if err != nil {
			return err
		}
		switch b := m.Body.(type) {
		case *protocol.ToPeer_Welcome:
			if err := b.Welcome.Verify(s.challenge, login); err != nil {
				return err
			}
			proven = true
			r.homes.learn(b.Welcome.GetNodes())
			r.keepHomes()
		case *protocol.ToPeer_Refused:
			return &protocol.Error{Code: protocol.Code(b.Refused.GetCode()), Text: b.Refused.GetText()}
		case *protocol.ToPeer_Joined:
			if !proven {
				return protocol.Errorf(protocol.CodeSignature, "the node does not prove who it is")
			}
			if !stop() {
				return ctx.Err()
			}
			s.joined = b.Joined
			r.takeServers(s, b.Joined.GetIce())
			return nil
		}
	}
}

// keepHomes is no reason not to join.
func (r *Room) keepHomes() {
	if r.opts.Cache == "" {
		return
	}
	if err := r.homes.keep(r.opts.Cache); err != nil {
		r.log.Warn("the nodes that were learnt are not kept", "error", err)
	}
}

func (s *socket) read() (*protocol.ToPeer, error) {
	_, b, err := s.ws.ReadMessage()
	if err != nil {
		return nil, err
	}
	m := new(protocol.ToPeer)
	return m, proto.Unmarshal(b, m)
}

func (s *socket) readWithin(d time.Duration) (*protocol.ToPeer, error) {
	if err := s.ws.SetReadDeadline(time.Now().Add(d)); err != nil {
		return nil, err
	}
	return s.read()
}

// write is for one goroutine at a time.
func (s *socket) write(m *protocol.ToNode) error {
	b, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	return s.writeBytes(b)
}

func (s *socket) writeBytes(b []byte) error {
	if err := s.ws.SetWriteDeadline(time.Now().Add(writeWithin)); err != nil {
		return err
	}
	return s.ws.WriteMessage(websocket.BinaryMessage, b)
}

// send queues a message, and drops it when the node does not read: whoever
// negotiates tries again.
func (s *socket) send(m *protocol.ToNode) {
	b, err := proto.Marshal(m)
	if err != nil {
		return
	}
	select {
	case s.out <- b:
	default:
	}
}

// isBusy says whether the node is so slow that it gets no relayed data.
func (s *socket) isBusy() bool { return len(s.out) > maxWaiting/2 }

// enters takes the socket into use. When the node has kept the membership it
// shows nobody again: who was there is there.
func (r *Room) enters(s *socket) {
	defer r.hasNode()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.socket = s
	if s.joined.GetResumed() && r.epoch > 0 {
		return
	}
	r.epoch++
	r.total = int(min(s.joined.GetMembers(), maxTotal))
	if r.total > r.opts.MaxPeers {
		r.log.Info("the room is larger than what is connected", "members", r.total, "connections", r.opts.MaxPeers)
	}
}

// serve, after enters, reads and writes until the connection ends or the room is left. It
// reports whether the connection broke, rather than being ended by the node.
func (r *Room) serve(s *socket) (broke bool) {
	stop := closeWith(r.wire, s.ws)
	defer stop()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer s.ws.Close()
		r.writeAll(s)
	}()
	for {
		m, err := s.readWithin(silentFor)
		if err != nil {
			code := closeCode(err)
			broke = code == 0 || code == websocket.CloseAbnormalClosure
			r.log.Debug("the node is gone", "code", code)
			break
		}
		r.handle(s, m)
	}
	r.mu.Lock()
	r.socket = nil
	r.mu.Unlock()
	close(s.done)
	<-ended
	return broke
}

// closeCode is what a node closed with, 0 when it did not say. The error itself
// has addresses, which are not for a log.
func closeCode(err error) int {
	if c, ok := errors.AsType[*websocket.CloseError](err); ok {
		return c.Code
	}
	return 0
}

// writeAll writes what is queued, beats, and renews the presence in time.
func (r *Room) writeAll(s *socket) {
	beat, refresh, doubt := time.NewTicker(beatEvery), time.NewTicker(refreshEvery), time.NewTimer(doubtAfter)
	ask := time.NewTimer(r.servers.wait(time.Now()))
	defer ask.Stop()
	defer beat.Stop()
	defer refresh.Stop()
	defer doubt.Stop()
	for {
		var err error
		select {
		case b := <-s.out:
			err = s.writeBytes(b)
		case <-beat.C:
			err = s.write(&protocol.ToNode{Ref: refBeat, Body: &protocol.ToNode_Beat{Beat: &protocol.Beat{}}})
		case <-refresh.C:
			r.refresh(s)
		case <-doubt.C:
			r.doubt()
		case <-s.served:
			ask.Reset(r.servers.wait(time.Now()))
		case <-ask.C:
			ask.Reset(r.servers.asks(time.Now()))
			s.asked.Store(true)
			err = s.write(&protocol.ToNode{Ref: refICE, Body: &protocol.ToNode_AskIce{AskIce: &protocol.AskIce{}}})
		case <-s.done:
			return
		}
		if err != nil {
			return
		}
	}
}

// refresh joins again on the same node, with a new presence.
func (r *Room) refresh(s *socket) {
	if p, err := r.presence(); err == nil { // it was signed before, with the same fields
		s.send(&protocol.ToNode{Ref: refRefresh, Body: &protocol.ToNode_Join{Join: &protocol.Join{App: r.app[:], Presence: p}}})
	}
}

// handle takes one message of the node. Only the reader calls it.
func (r *Room) handle(s *socket, m *protocol.ToPeer) {
	switch b := m.Body.(type) {
	case *protocol.ToPeer_Arrived:
		r.arrived(b.Arrived)
	case *protocol.ToPeer_Departed:
		if string(b.Departed.GetMember()) == string(r.self.Bytes()) {
			r.refresh(s) // the node has let the presence expire
			return
		}
		r.departed(b.Departed)
	case *protocol.ToPeer_Delivered:
		r.delivered(b.Delivered)
	case *protocol.ToPeer_Done:
		if m.Ref == refPart {
			s.partedOnce.Do(func() { close(s.parted) })
		}
	case *protocol.ToPeer_Joined:
		r.takeServers(s, b.Joined.GetIce())
	case *protocol.ToPeer_IceServers:
		if m.Ref == refICE && s.asked.Swap(false) {
			r.takeServers(s, b.IceServers)
			r.renewed()
		}
	case *protocol.ToPeer_Broadcast:
		r.broadcast(b.Broadcast.GetEnvelope())
	case *protocol.ToPeer_Refused:
		r.log.Debug("the node refuses", "ref", m.Ref, "code", protocol.Code(b.Refused.GetCode()).String())
		r.mu.Lock()
		rl := r.relays[m.Ref]
		r.mu.Unlock()
		if rl != nil {
			rl.refuse(b.Refused)
		}
	}
}
