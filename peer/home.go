package peer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

const (
	maxHomes   = 32 // nodes that are remembered
	racers     = 2  // nodes that are tried at the same time
	backoffMin = 250 * time.Millisecond
	backoffMax = 30 * time.Second
	steadyFor  = 10 * time.Second // on a node, before joining anew is not a repetition
)

// homes are the nodes that may be joined on, the best first.
type homes struct {
	insecure bool              // a ws:// URL was given: those of other nodes will do too
	fresh    chan struct{}     // a node was heard on the LAN
	tokens   map[string]string // by URL: for nodes of the options that are private, and for no other

	mu    sync.Mutex
	urls  []string
	nodes map[string]protocol.NodeID // whose record named the URL
	fixed bool                       // there are to be no others
	kept  []byte                     // what is in the file of Options.Cache
}

// newHomes are those of the options, of which there may be none when others will
// be heard on the LAN.
func newHomes(given []string, onLAN bool) (*homes, error) {
	h := &homes{nodes: make(map[string]protocol.NodeID), fresh: make(chan struct{}, 1), tokens: make(map[string]string)}
	for _, s := range given {
		u, token, err := parseNode(s)
		if err != nil {
			return nil, err
		}
		h.insecure = h.insecure || strings.HasPrefix(u, "ws:")
		if token != "" {
			h.tokens[u] = token
		}
		if !slices.Contains(h.urls, u) {
			h.urls = append(h.urls, u)
		}
	}
	if (len(h.urls) == 0 && !onLAN) || len(h.urls) > maxHomes {
		return nil, fmt.Errorf("peer: 1 to %d nodes are needed", maxHomes)
	}
	return h, nil
}

// parseNode reads a node of the options: its URL and, if it is private, the token
// that its operator gave out, which stands in the path or behind it. No error
// repeats that.
func parseNode(s string) (base, token string, err error) {
	u, err := url.Parse(s)
	if err == nil && (u.Scheme == "ws" || u.Scheme == "wss") && u.Host != "" && u.User == nil && u.Fragment == "" {
		path, inPath := strings.CutPrefix(strings.TrimSuffix(u.EscapedPath(), "/"), "/t/")
		query, err := url.ParseQuery(u.RawQuery)
		token = query.Get("token")
		base = u.Scheme + "://" + u.Host
		switch {
		case err != nil || len(query) > 1 || len(query["token"]) != len(query):
		case path == "" && !inPath:
			return base, token, nil
		case inPath && len(query) == 0 && path != "" && !strings.Contains(path, "/"):
			token, err = url.PathUnescape(path)
			return base, token, err
		}
	}
	shown, _, _ := strings.Cut(s, "?")
	shown, _, _ = strings.Cut(shown, "/t/")
	return "", "", fmt.Errorf("peer: node %q is not ws:// or wss:// and a host, with ?token=TOKEN behind it if it is private", shown)
}

func (h *homes) list() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.urls)
}

// lost puts a node last.
func (h *homes) lost(u string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if i := slices.Index(h.urls, u); i >= 0 {
		h.urls = append(slices.Delete(h.urls, i, i+1), u)
	}
}

// learn adds nodes that a node has named. A record proves which key is to be
// found at its URLs, and node makes use of that.
func (h *homes) learn(records []*protocol.SignedRecord) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range records[:min(len(records), protocol.MaxNodesRecords)] {
		if s == nil || len(s.Key) != len(protocol.NodeID{}) {
			continue
		}
		id := protocol.NodeID(s.Key)
		rec, err := s.Verify(id, time.Now())
		if err != nil {
			continue
		}
		for _, u := range rec.URLs {
			h.add(u, id)
		}
	}
}

// near adds a node that was heard on the LAN: its URLs at the address that it was
// heard from, with or without TLS.
func (h *homes) near(rec *protocol.Record, from netip.Addr) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range rec.URLs {
		u, err := protocol.ParseLinkURL(s)
		if err != nil || u.Host != from.WithZone("").String() {
			continue
		}
		known := slices.Contains(h.urls, s)
		if _, learnt := h.nodes[s]; known && learnt {
			h.nodes[s] = rec.Node // it may have been started anew, with another key
		}
		if known || !h.makeRoom() {
			continue
		}
		h.urls, h.nodes[s] = append(h.urls, s), rec.Node
		select {
		case h.fresh <- struct{}{}:
		default:
		}
	}
}

// pin has only the URLs that there are be used, and only while they are of a
// node.
func (h *homes) pin(node protocol.NodeID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fixed = true
	for _, u := range h.urls {
		h.nodes[u] = node
	}
}

// of are the URLs that a node's record has named.
func (h *homes) of(node protocol.NodeID) (urls []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for u, of := range h.nodes {
		if of == node {
			urls = append(urls, u)
		}
	}
	slices.Sort(urls)
	return urls
}

// makeRoom forgets the last node that was learnt if there are too many. Those
// of the options stay.
func (h *homes) makeRoom() bool {
	for i := len(h.urls) - 1; len(h.urls) >= maxHomes && i >= 0; i-- {
		if _, learnt := h.nodes[h.urls[i]]; learnt {
			delete(h.nodes, h.urls[i])
			h.urls = slices.Delete(h.urls, i, i+1)
		}
	}
	return len(h.urls) < maxHomes
}

// isNode says whether the node at a URL is the one whose record named it.
func (h *homes) isNode(u string, key []byte) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	want, known := h.nodes[u]
	return !known || string(want[:]) == string(key)
}

// run keeps the room on a node until it is left. When the node is gone it joins
// on the next one at once; then less and less often, if none lets in, or they
// let in and close. When only the connection broke, the same node is tried too:
// it keeps the membership for a while.
func (r *Room) run(s *socket) {
	wait := time.Duration(0)
	if s == nil { // on a LAN it may do without
		s, wait = r.rejoin(backoffMin)
	}
	for s != nil {
		began := time.Now()
		broke, steady := r.serve(s), time.Since(began) > steadyFor
		if !broke || !steady {
			r.homes.lost(s.url)
		}
		if steady || r.hasRoamed() {
			wait = 0
		}
		s, wait = r.rejoin(wait)
	}
}

// rejoin joins on a node after a time, and again after longer ones. It returns
// the next one, and no socket when the room is left.
func (r *Room) rejoin(wait time.Duration) (s *socket, next time.Duration) {
	for s == nil && r.pause(wait) {
		ctx, cancel := r.dialling()
		var err error
		if s, err = r.enter(ctx); err != nil {
			r.log.Debug("no node lets in") // the error has addresses
		}
		wait = min(max(2*wait, backoffMin), backoffMax)
		if s == nil && ctx.Err() != nil { // there is another network
			wait = 0
		}
		cancel()
	}
	if s != nil {
		r.enters(s)
	}
	return s, wait
}

// pause waits for about as long, or until another node is heard, and reports
// false when the room is left.
func (r *Room) pause(d time.Duration) bool {
	if d > 0 {
		select {
		case <-time.After(d/2 + rand.N(d)):
		case <-r.homes.fresh:
		case <-r.work.Done():
		}
	}
	return r.work.Err() == nil
}

// enter joins on the first node that lets in, two being tried at a time. They
// race to the point where a node has shown itself; from there on it is one
// after the other, so that there is one membership.
func (r *Room) enter(ctx context.Context) (*socket, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	urls := r.homes.list()
	if len(urls) == 0 {
		return nil, errors.New("peer: no node is known yet")
	}
	next := make(chan string, len(urls))
	for _, u := range urls {
		next <- u
	}
	close(next)
	var (
		turn   = make(chan struct{}, 1)
		racing sync.WaitGroup
		mu     sync.Mutex
		won    *socket
		errs   []error
	)
	for range min(racers, len(urls)) {
		racing.Go(func() {
			for u := range next {
				s, err := r.try(ctx, u, turn)
				mu.Lock()
				if err == nil {
					won = s
					cancel()
				} else {
					errs = append(errs, fmt.Errorf("join on %s: %w", u, err))
				}
				mu.Unlock()
				if ctx.Err() != nil {
					return
				}
			}
		})
	}
	racing.Wait()
	if won != nil {
		return won, nil
	}
	return nil, errors.Join(errs...)
}

// try joins on one node. It holds turn from the login on, and keeps it when it
// succeeds.
func (r *Room) try(ctx context.Context, u string, turn chan struct{}) (*socket, error) {
	s, err := dial(ctx, u, r.homes.tokens[u])
	if err != nil {
		return nil, err
	}
	if !r.homes.isNode(u, s.challenge.Node) {
		s.ws.Close()
		return nil, protocol.Errorf(protocol.CodeDenied, "another node than the one that was named")
	}
	select {
	case turn <- struct{}{}:
	case <-ctx.Done():
		s.ws.Close()
		return nil, ctx.Err()
	}
	if err := r.login(ctx, s); err != nil {
		<-turn
		s.ws.Close()
		return nil, err
	}
	return s, nil
}
