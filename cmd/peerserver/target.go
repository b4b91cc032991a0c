package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/peerservers/peerserver/peer"
	"github.com/peerservers/peerserver/protocol"
)

// target says whom call calls: "*" for all, name:NAME for those of a name, or
// the id of a peer or its beginning.
type target string

func (t target) matches(p *peer.Peer) bool {
	if name, ok := strings.CutPrefix(string(t), "name:"); ok {
		return p.Name() == name
	}
	return t == "*" || t != "" && strings.HasPrefix(p.ID().String(), string(t))
}

// one says that the target is one peer, of which there may be several sessions.
func (t target) one() bool { return t != "*" && !strings.HasPrefix(string(t), "name:") }

// whole says that it is one peer's whole id, so that nobody else can come.
func (t target) whole() bool {
	_, err := protocol.ParsePeerID(string(t))
	return err == nil
}

// await gives those who are called: as soon as all who are known to be there are
// connected, and after the time those who are.
func (t target) await(ctx context.Context, room *peer.Room, arrived <-chan struct{}, within time.Duration) ([]*peer.Peer, error) {
	late := time.NewTimer(within)
	defer late.Stop()
	again := time.NewTicker(100 * time.Millisecond) // who has left is no longer waited for
	defer again.Stop()
	for over := false; ; {
		here := room.Peers()
		found, err := t.among(here)
		if err != nil || len(found) > 0 && (over || t.whole() || len(here) >= room.Members()) {
			return found, err
		}
		if over {
			return nil, t.nobody(here, within)
		}
		select {
		case <-arrived:
		case <-again.C:
		case <-late.C:
			over = true
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (t target) among(here []*peer.Peer) (found []*peer.Peer, err error) {
	for _, p := range here {
		if !t.matches(p) {
			continue
		}
		if found = append(found, p); t.one() && found[0].ID() != p.ID() {
			return nil, fmt.Errorf("%s begins the ids of %s and of %s; give more of it", t, shown(found[0]), shown(p))
		}
	}
	return found, nil
}

func (t target) nobody(here []*peer.Peer, within time.Duration) error {
	if len(here) == 0 {
		return fmt.Errorf("nobody is here after %v; is the app's name right, and its secret?", within)
	}
	names := make([]string, 0, 10)
	for _, p := range here[:min(len(here), cap(names))] {
		names = append(names, shown(p))
	}
	return fmt.Errorf("after %v there is no %s among the %d who are here: %s", within, printable(string(t)), len(here), strings.Join(names, ", "))
}
