package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/pion/webrtc/v4"

	"github.com/peerservers/peerserver/node"
	"github.com/peerservers/peerserver/peer"
)

const (
	openWithin = 30 * time.Second
	warmUp     = 3 * time.Second // SCTP loses packets when it starts, and then waits for a second
)

// way is a channel from one end to the other.
type way struct {
	send  func(context.Context, []byte) error
	got   chan int // bytes of each message that came
	close func()
}

// measure says how many messages of a size arrive in a second.
func measure(open func(context.Context) (*way, error), size int, lasts time.Duration) (float64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), openWithin+warmUp+lasts)
	defer cancel()
	w, err := open(ctx)
	if err != nil {
		return 0, err
	}
	defer w.close()
	sending, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for b := make([]byte, size); w.send(sending, b) == nil; {
		}
	}()
	defer func() { <-ended }()
	defer stop()
	if _, err := w.count(ctx, size, warmUp); err != nil {
		return 0, err
	}
	began := time.Now()
	n, err := w.count(ctx, size, lasts)
	return float64(n) / time.Since(began).Seconds(), err
}

// count counts the messages that come in a while.
func (w *way) count(ctx context.Context, size int, lasts time.Duration) (n int, err error) {
	for end := time.After(lasts); ; {
		select {
		case got := <-w.got:
			if got != size {
				return 0, errors.New("a message came in another size")
			}
			n++
		case <-end:
			return n, nil
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// ours are two rooms on a node of their own.
func ours(ctx context.Context) (*way, error) {
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	n, err := node.New(node.Config{Listen: "127.0.0.1:0", NoDHT: true, AllowPrivate: true}) //nolint:contextcheck // New has none
	if err != nil {
		stop()
		return nil, err
	}
	var served sync.WaitGroup
	served.Go(func() { _ = n.Serve(serving) }) // it ends by stop only
	w := &way{got: make(chan int, 1024)}
	var rooms []*peer.Room
	w.close = func() {
		for _, r := range rooms {
			_ = r.Leave(context.WithoutCancel(ctx))
		}
		stop()
		served.Wait()
	}
	met := make(chan *peer.Peer, 1)
	for _, o := range []peer.Options{
		{OnMessage: func(_ *peer.Peer, b []byte) { w.tell(ctx, len(b)) }},
		{OnPeer: func(p *peer.Peer) { met <- p }},
	} {
		o.Nodes = []string{"ws://" + n.Addr().String()}
		r, err := peer.Join(ctx, "bench", o)
		if err != nil {
			w.close()
			return nil, err
		}
		rooms = append(rooms, r)
	}
	select {
	case p := <-met:
		w.send = p.Send
		return w, nil
	case <-ctx.Done():
		w.close()
		return nil, ctx.Err()
	}
}

func (w *way) tell(ctx context.Context, n int) {
	select {
	case w.got <- n:
	case <-ctx.Done():
	}
}

// barePion are two connections without anything of ours, and the same bounds
// on what is on its way.
func barePion(ctx context.Context) (*way, error) {
	const high, low = 1 << 20, 256 << 10
	one, err := webrtc.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return nil, err
	}
	other, err := webrtc.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return nil, errors.Join(err, one.Close())
	}
	w := &way{got: make(chan int, 1024)}
	w.close = func() {
		_ = one.GracefulClose()
		_ = other.GracefulClose()
	}
	yes, zero := true, uint16(0)
	init := &webrtc.DataChannelInit{Negotiated: &yes, ID: &zero}
	from, err := one.CreateDataChannel("bench", init)
	if err != nil {
		w.close()
		return nil, err
	}
	to, err := other.CreateDataChannel("bench", init)
	if err != nil {
		w.close()
		return nil, err
	}
	to.OnMessage(func(m webrtc.DataChannelMessage) { w.tell(ctx, len(m.Data)) })
	room, open := make(chan struct{}, 1), make(chan struct{})
	from.SetBufferedAmountLowThreshold(low)
	from.OnBufferedAmountLow(func() {
		select {
		case room <- struct{}{}:
		default:
		}
	})
	from.OnOpen(func() { close(open) })
	w.send = func(ctx context.Context, b []byte) error {
		for from.BufferedAmount() > high {
			select {
			case <-room:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return from.Send(b)
	}
	if err := negotiate(one, other); err != nil {
		w.close()
		return nil, err
	}
	select {
	case <-open:
		return w, nil
	case <-ctx.Done():
		w.close()
		return nil, ctx.Err()
	}
}

func negotiate(one, other *webrtc.PeerConnection) error {
	offer, err := one.CreateOffer(nil)
	if err != nil {
		return err
	}
	gathered := webrtc.GatheringCompletePromise(one)
	if err := one.SetLocalDescription(offer); err != nil {
		return err
	}
	<-gathered
	if err := other.SetRemoteDescription(*one.LocalDescription()); err != nil {
		return err
	}
	answer, err := other.CreateAnswer(nil)
	if err != nil {
		return err
	}
	gathered = webrtc.GatheringCompletePromise(other)
	if err := other.SetLocalDescription(answer); err != nil {
		return err
	}
	<-gathered
	return one.SetRemoteDescription(*other.LocalDescription())
}
