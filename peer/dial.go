package peer

import (
	"context"
	"crypto/ed25519"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// dialWithin is how long Dial takes at most when its context has no deadline.
const dialWithin = 30 * time.Second

// dialled says whom a room is joined for: the one peer that it has to do with,
// on the one node.
type dialled struct {
	node protocol.NodeID
	peer protocol.PeerID
}

// Listen makes this process one that can be dialled: a member of the app that
// is named after its id, in which those are who dial it. Addresses says where.
// Give it an Identity, or the address is another one each time.
func Listen(ctx context.Context, o Options) (*Room, error) {
	if o.Identity == nil {
		_, o.Identity, _ = ed25519.GenerateKey(nil) // from crypto/rand, which does not fail
	}
	if len(o.Identity) != ed25519.PrivateKeySize {
		return nil, errIdentity()
	}
	o.listens = true
	return Join(ctx, protocol.PeerID(o.Identity.Public().(ed25519.PublicKey)).String(), o)
}

// Addresses are where Dial reaches this process, the URL in use first and then
// the others that the node's record names. They change when the room goes to
// another node. There are none without a node, and for a room that Join has
// made: whoever is in it is met there.
func (r *Room) Addresses() []protocol.Address {
	r.mu.Lock()
	s := r.socket
	r.mu.Unlock()
	if s == nil || !r.opts.listens || len(s.challenge.Node) != len(protocol.NodeID{}) {
		return nil
	}
	node := protocol.NodeID(s.challenge.Node)
	var list []protocol.Address
	for _, u := range append([]string{s.url}, r.homes.of(node)...) {
		a, err := protocol.AddressOf(u, node, r.self.Peer)
		if err == nil && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	return list
}

// Dial connects to the peer at an address that its Addresses has said, and to
// nobody else: it joins on that node only, which has to be the one that the
// address names. Nodes and LAN of the options are not looked at. Close ends
// the connection and the membership; after a break they come back by
// themselves, as another Peer that OnPeer is told of. A peer that listens twice
// with one identity may be met twice, and Dial returns the first.
//
// An error has CodeMalformed for an address that is none, CodeDenied for another
// node, and CodeUnknownPeer when the peer was not met until ctx ended, or for 30
// s if it has no deadline.
func Dial(ctx context.Context, address string, o Options) (*Peer, error) {
	a, err := protocol.ParseAddress(address)
	if err != nil {
		return nil, err
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, dialWithin)
		defer cancel()
	}
	o.Nodes, o.LAN, o.dialled = []string{a.URL()}, false, &dialled{a.Node, a.Peer}
	met, once, told := make(chan *Peer), new(sync.Once), o.OnPeer
	over := make(chan struct{})
	o.OnPeer = func(p *Peer) {
		if told != nil {
			told(p)
		}
		once.Do(func() {
			select {
			case met <- p:
			case <-over:
			}
		})
	}
	r, err := Join(ctx, a.Peer.String(), o)
	if err != nil {
		return nil, err
	}
	select {
	case p := <-met:
		return p, nil
	case <-ctx.Done():
		close(over)
		_ = r.Leave(context.Background()) //nolint:contextcheck // it is over by itself soon; with an ended context it would wait for nothing
		return nil, errors.Join(protocol.Errorf(protocol.CodeUnknownPeer, "peer: %s was not met on its node; does it listen there?", a.Peer.Short()), ctx.Err())
	}
}

// Room is the membership that the peer was met in.
func (p *Peer) Room() *Room { return p.r }

// Close leaves what Dial has joined, and waits as Room.Leave does; no handler
// may call it. A peer of any other room stays, with an error: it ends when one
// of the two leaves that.
func (p *Peer) Close() error {
	if p.r.opts.dialled == nil {
		return protocol.Errorf(protocol.CodeDenied, "peer: this one was not dialled; leave its room instead")
	}
	return p.r.Leave(context.Background())
}

// wants says whether the room has to do with a peer.
func (r *Room) wants(id protocol.PeerID) bool {
	return r.opts.dialled == nil || r.opts.dialled.peer == id
}

func errIdentity() error {
	return protocol.Errorf(protocol.CodeMalformed, "peer: an identity is an ed25519 key of %d bytes", ed25519.PrivateKeySize)
}
