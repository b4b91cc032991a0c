package testnet

import (
	"context"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // an infohash is SHA-1
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/pion/webrtc/v4"
)

const (
	peerOffers  = 3
	meetWithin  = 30 * time.Second
	greetWithin = 30 * time.Second
)

// Peer is a client of one node: it announces itself in a room by the protocol
// of WebTorrent trackers and opens a data channel to every other peer there.
type Peer struct {
	Name string

	t    TB
	id   string // 20 characters
	room string
	api  *webrtc.API
	ctx  context.Context //nolint:containedctx // ends with the peer, whose goroutines and connections all need it
	end  context.CancelFunc
	all  sync.WaitGroup

	writing sync.Mutex // one writer at a time on ws
	ws      *websocket.Conn

	mu     sync.Mutex
	offers map[string]*webrtc.PeerConnection // by offer id
	conns  []*webrtc.PeerConnection
	links  map[string]*webrtc.DataChannel // open, by the other's id
	heard  map[string][]string            // by the other's id
	counts int                            // members of the room, as last told
	news   chan struct{}                  // closed and made anew on each change
}

// frame is a message of the tracker protocol, in either direction.
type frame struct {
	Action     string      `json:"action"`
	InfoHash   string      `json:"info_hash"`
	PeerID     string      `json:"peer_id,omitempty"`
	ToPeerID   string      `json:"to_peer_id,omitempty"`
	OfferID    string      `json:"offer_id,omitempty"`
	NumWant    int         `json:"numwant,omitempty"`
	Event      string      `json:"event,omitempty"`
	Offers     []offer     `json:"offers,omitempty"`
	Offer      *descriptor `json:"offer,omitempty"`
	Answer     *descriptor `json:"answer,omitempty"`
	Complete   int         `json:"complete,omitempty"`
	Incomplete int         `json:"incomplete,omitempty"`
	Interval   int         `json:"interval,omitempty"`
	Failure    string      `json:"failure reason,omitempty"`
}

type offer struct {
	OfferID string     `json:"offer_id"`
	Offer   descriptor `json:"offer"`
}

type descriptor struct {
	Type string `json:"type"`
	SDP  string `json:"sdp"`
}

// newPeer connects to a node and announces itself once; it announces again at
// the interval that it is told.
func newPeer(t TB, name, room, url string) (*Peer, error) {
	var settings webrtc.SettingEngine
	settings.SetIncludeLoopbackCandidate(true)
	settings.SetInterfaceFilter(func(name string) bool { return name == "lo" })
	settings.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	hash := sha1.Sum([]byte(room)) //nolint:gosec // an infohash is SHA-1
	p := &Peer{
		Name: name, t: t, id: binaryString([]byte((name + strings.Repeat("-", 20))[:20])), room: binaryString(hash[:]),
		api: webrtc.NewAPI(webrtc.WithSettingEngine(settings)), offers: make(map[string]*webrtc.PeerConnection),
		links: make(map[string]*webrtc.DataChannel), heard: make(map[string][]string), news: make(chan struct{}),
	}
	p.ctx, p.end = context.WithCancel(context.Background())
	ws, _, err := websocket.DefaultDialer.DialContext(p.ctx, url, nil) //nolint:bodyclose // gorilla has read it
	if err != nil {
		p.end()
		return nil, fmt.Errorf("peer %s: %w", name, err)
	}
	p.ws = ws
	p.all.Go(p.read)
	p.all.Go(p.announceForever)
	return p, nil
}

// binaryString is bytes as the protocol has them: a character for each.
func binaryString(b []byte) string {
	runes := make([]rune, len(b))
	for i, c := range b {
		runes[i] = rune(c)
	}
	return string(runes)
}

// Leave closes the peer's connections and its socket, and waits.
func (p *Peer) Leave() {
	p.end()
	p.ws.Close()
	p.mu.Lock()
	conns := p.conns
	p.conns = nil
	p.mu.Unlock()
	for _, c := range conns {
		c.Close()
	}
	p.all.Wait()
}

func (p *Peer) write(f *frame) error {
	p.writing.Lock()
	defer p.writing.Unlock()
	return p.ws.WriteJSON(f)
}

func (p *Peer) changed() {
	close(p.news)
	p.news = make(chan struct{})
}

func (p *Peer) announceForever() {
	const interval = 40 * time.Second // what a node asks of small rooms
	event := "started"
	for {
		if err := p.announce(event); err != nil {
			return
		}
		event = ""
		select {
		case <-time.After(interval):
		case <-p.ctx.Done():
			return
		}
	}
}

func (p *Peer) announce(event string) error {
	f := &frame{Action: "announce", InfoHash: p.room, PeerID: p.id, NumWant: peerOffers, Event: event}
	for range peerOffers {
		var raw [20]byte
		rand.Read(raw[:])
		id := binaryString(raw[:])
		sdp, err := p.offer(id)
		if err != nil {
			return err
		}
		f.Offers = append(f.Offers, offer{OfferID: id, Offer: descriptor{"offer", sdp}})
	}
	return p.write(f)
}

// connection makes a connection that ends with the peer.
func (p *Peer) connection() (*webrtc.PeerConnection, error) {
	c, err := p.api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() != nil {
		c.Close()
		return nil, p.ctx.Err()
	}
	p.conns = append(p.conns, c)
	return c, nil
}

func (p *Peer) offer(id string) (string, error) {
	c, err := p.connection()
	if err != nil {
		return "", err
	}
	channel, err := c.CreateDataChannel("testnet", nil)
	if err != nil {
		return "", err
	}
	p.greet(channel)
	o, err := c.CreateOffer(nil)
	if err != nil {
		return "", err
	}
	p.mu.Lock()
	p.offers[id] = c
	p.mu.Unlock()
	return p.settle(c, o)
}

// settle sets the local description and waits for its candidates.
func (p *Peer) settle(c *webrtc.PeerConnection, d webrtc.SessionDescription) (string, error) {
	gathered := webrtc.GatheringCompletePromise(c)
	if err := c.SetLocalDescription(d); err != nil {
		return "", err
	}
	select {
	case <-gathered:
		return c.LocalDescription().SDP, nil
	case <-p.ctx.Done():
		return "", p.ctx.Err()
	}
}

// greet says who we are when the channel opens; the first message of the other
// side says who it is.
func (p *Peer) greet(channel *webrtc.DataChannel) {
	channel.OnOpen(func() { _ = channel.SendText("i am " + p.id) }) // a channel that fails is not counted as open
	other := ""
	channel.OnMessage(func(m webrtc.DataChannelMessage) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if other == "" {
			other = strings.TrimPrefix(string(m.Data), "i am ")
			p.links[other] = channel
		} else {
			p.heard[other] = append(p.heard[other], string(m.Data))
		}
		p.changed()
	})
}

func (p *Peer) read() {
	for {
		var f frame
		if err := p.ws.ReadJSON(&f); err != nil {
			return
		}
		switch {
		case f.Offer != nil:
			p.all.Go(func() { p.answer(&f) })
		case f.Answer != nil:
			p.mu.Lock()
			c := p.offers[f.OfferID]
			delete(p.offers, f.OfferID)
			p.mu.Unlock()
			if c != nil {
				// A second answer to one offer would fail here; the nodes let none pass.
				_ = c.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: f.Answer.SDP})
			}
		default:
			p.mu.Lock()
			p.counts = f.Complete + f.Incomplete
			p.changed()
			p.mu.Unlock()
		}
	}
}

func (p *Peer) answer(f *frame) {
	c, err := p.connection()
	if err != nil {
		return
	}
	c.OnDataChannel(p.greet)
	if err := c.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: f.Offer.SDP}); err != nil {
		return
	}
	a, err := c.CreateAnswer(nil)
	if err != nil {
		return
	}
	sdp, err := p.settle(c, a)
	if err != nil {
		return
	}
	_ = p.write(&frame{ // a socket that is gone ends the peer anyway
		Action: "announce", InfoHash: p.room, PeerID: p.id, ToPeerID: f.PeerID, OfferID: f.OfferID, Answer: &descriptor{"answer", sdp},
	})
}

// await waits until ok, which is called with mu held, or fails the test.
func (p *Peer) await(what string, within time.Duration, ok func() bool) {
	p.t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	for {
		p.mu.Lock()
		done, news := ok(), p.news
		p.mu.Unlock()
		if done {
			return
		}
		select {
		case <-news:
		case <-deadline.C:
			p.t.Fatalf("peer %s: %s: not within %v", p.Name, what, within)
			return
		}
	}
}

// Meets waits until the two have an open channel, and says how long that took.
func (p *Peer) Meets(other *Peer) time.Duration {
	p.t.Helper()
	began := time.Now()
	p.await("meets "+other.Name, meetWithin, func() bool { return p.links[other.id] != nil })
	other.await("meets "+p.Name, meetWithin, func() bool { return other.links[p.id] != nil })
	return time.Since(began)
}

// Tells sends text to another peer over their channel, and waits until it is
// heard.
func (p *Peer) Tells(other *Peer, text string) {
	p.t.Helper()
	p.mu.Lock()
	channel := p.links[other.id]
	p.mu.Unlock()
	if channel == nil {
		p.t.Fatalf("peer %s has not met %s", p.Name, other.Name)
		return
	}
	if err := channel.SendText(text); err != nil {
		p.t.Fatalf("peer %s tells %s: %v", p.Name, other.Name, err)
	}
	other.await("hears "+p.Name, greetWithin, func() bool {
		return slices.Contains(other.heard[p.id], text)
	})
}

// HasMet says whether there is an open channel to another peer.
func (p *Peer) HasMet(other *Peer) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.links[other.id] != nil
}
