package node

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"syscall"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/peerservers/peerserver/protocol"
)

// Durations of fetching records from nodes that are known by URL.
const (
	fetchTimeout = 10 * time.Second
	retryFirst   = 250 * time.Millisecond
	retryMost    = time.Minute
	refetch      = protocol.RecordTTL / 2
	maxAnswer    = 16 << 10
	maxPeers     = 1000
	maxLearnt    = protocol.MaxAppLinks // nodes that others told of
	maxTasks     = 4096
	renear       = 10 * time.Minute // the DHT may have said other URLs of it meanwhile
)

// fixedFinder is a relay.Finder that knows nodes by a list of URLs, whatever
// the app, and asks each for its record.
type fixedFinder struct {
	// Static.
	key    ed25519.PrivateKey
	self   protocol.NodeID
	peers  []string                 // base URLs
	fill   func(r *protocol.Record) // says what the node offers; nil: nothing
	delay  time.Duration
	client *http.Client
	log    *slog.Logger
	wake   chan struct{} // there is a task

	mu      sync.Mutex
	urls    []string // of the record
	signed  *protocol.Record
	stale   bool                                             // it says something else than the node would now
	records map[string]*protocol.Record                      // by base URL, at most maxPeers
	learnt  map[protocol.NodeID]*protocol.Record             // at most maxLearnt
	onLAN   map[protocol.NodeID]*protocol.Record             // at most protocol.MaxBeacons
	wanted  map[protocol.AppID]func(record *protocol.Record) // what to tell of each
	tasks   []func()                                         // what is to be told
}

func newFixedFinder(cfg *Config, urls []string) (*fixedFinder, error) {
	f := &fixedFinder{
		key: cfg.Key, urls: urls, delay: cfg.PeerDelay, log: cfg.Log, wake: make(chan struct{}, 1),
		self:    protocol.NodeID(cfg.Key.Public().(ed25519.PublicKey)),
		records: make(map[string]*protocol.Record), wanted: make(map[protocol.AppID]func(*protocol.Record)),
		learnt: make(map[protocol.NodeID]*protocol.Record), onLAN: make(map[protocol.NodeID]*protocol.Record),
	}
	for _, u := range urls {
		if _, err := protocol.ParseLinkURL(u); err != nil {
			return nil, fmt.Errorf("own URL %q: %w", u, err)
		}
	}
	if len(urls) > protocol.MaxRecordURLs {
		return nil, fmt.Errorf("%d own URLs are over %d", len(urls), protocol.MaxRecordURLs)
	}
	dialer := &net.Dialer{Timeout: fetchTimeout}
	if !cfg.AllowPrivate {
		dialer.Control = publicOnly
	}
	f.client = &http.Client{
		Timeout:       fetchTimeout,
		Transport:     &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true, MaxResponseHeaderBytes: maxAnswer},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	for _, p := range cfg.Peers {
		base, err := baseURL(p)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(f.peers, base) {
			f.peers = append(f.peers, base)
		}
	}
	if len(f.peers) > maxPeers {
		return nil, fmt.Errorf("%d peers are over %d", len(f.peers), maxPeers)
	}
	return f, nil
}

// baseURL is scheme and host of a URL.
func baseURL(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil {
		return "", fmt.Errorf("peer %q is not of the form https://host[:port]", s)
	}
	return u.Scheme + "://" + u.Host, nil
}

// publicOnly looks at the address that is about to be connected.
func publicOnly(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if !protocol.Public(to.Addr()) {
		return protocol.Errorf(protocol.CodeRefused, "the address is not a public one; private ones need --allow-private")
	}
	return nil
}

func (f *fixedFinder) signal() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// serve asks the nodes until ctx ends.
func (f *fixedFinder) serve(ctx context.Context) error {
	var asking sync.WaitGroup
	defer asking.Wait()
	for _, base := range f.peers {
		asking.Go(func() {
			if sleep(ctx, f.delay) {
				f.ask(ctx, base)
			}
		})
	}
	for {
		f.mu.Lock()
		tasks := f.tasks
		f.tasks = nil
		f.mu.Unlock()
		for _, tell := range tasks {
			tell()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-f.wake:
		}
	}
}

// ask fetches a node's record, and again before it expires.
func (f *fixedFinder) ask(ctx context.Context, base string) {
	retry := retryFirst
	for {
		rec, err := f.fetch(ctx, base)
		wait := refetch
		if err != nil {
			if retry == retryMost {
				f.log.Info("peer does not answer", "peer", base, "err", bare(err))
			}
			wait, retry = retry, min(2*retry, retryMost)
		} else {
			retry = retryFirst
			f.found(base, rec)
		}
		if !sleep(ctx, wait/2+rand.N(wait)) {
			return
		}
	}
}

// bare takes the URL off an error, which may name an address.
func bare(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err
	}
	return err
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

func (f *fixedFinder) fetch(ctx context.Context, base string) (*protocol.Record, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, base+wellKnown, nil)
	if err != nil {
		return nil, err
	}
	answer, err := f.client.Do(q)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", answer.StatusCode)
	}
	b, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	var d Description
	if err := json.Unmarshal(b, &d); err != nil {
		return nil, err
	}
	if len(d.Record) == 0 {
		return nil, errors.New("the node has no record, so it cannot be dialled")
	}
	var signed protocol.SignedRecord
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(d.Record, &signed); err != nil {
		return nil, err
	}
	return signed.Verify(protocol.NodeID{}, time.Now())
}

// found tells of a record, newly fetched, to all who want nodes.
func (f *fixedFinder) found(base string, rec *protocol.Record) {
	if rec.Node == f.self {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if old := f.records[base]; old != nil && old.Node == rec.Node && old.Seq >= rec.Seq {
		return
	}
	f.records[base] = rec
	f.tellAll(rec)
}

// learn is found of a node that another one told of. What is told by strangers
// is bounded: the newest stay, in place of any.
func (f *fixedFinder) learn(rec *protocol.Record) {
	f.mu.Lock()
	defer f.mu.Unlock()
	old := f.learnt[rec.Node]
	if old != nil && old.Seq >= rec.Seq {
		return
	}
	if old == nil && len(f.learnt) >= maxLearnt {
		for id := range f.learnt {
			delete(f.learnt, id)
			break
		}
	}
	f.learnt[rec.Node] = rec
	f.tellAll(rec)
}

// near is found of a node that is heard on the LAN, again and again.
func (f *fixedFinder) near(rec *protocol.Record) {
	if rec.Node == f.self {
		return
	}
	slices.Sort(rec.URLs)
	f.mu.Lock()
	defer f.mu.Unlock()
	old := f.onLAN[rec.Node]
	if old != nil && slices.Equal(old.URLs, rec.URLs) && rec.Seq-old.Seq < renear.Milliseconds() {
		return
	}
	f.onLAN[rec.Node] = rec
	f.tellAll(rec)
}

// far forgets a node that is no longer heard. A link to it stays.
func (f *fixedFinder) far(id protocol.NodeID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.onLAN, id)
}

// tellAll tells all who want nodes of one. Called with mu held.
func (f *fixedFinder) tellAll(rec *protocol.Record) {
	f.tasks = append(f.tasks, func() {
		f.mu.Lock()
		wanted := slices.Collect(maps.Values(f.wanted))
		f.mu.Unlock()
		for _, tell := range wanted {
			tell(rec)
		}
	})
	f.signal()
}

// Want implements relay.Finder.
func (f *fixedFinder) Want(app protocol.AppID, found func(*protocol.Record)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wanted[app] = found
	known := slices.AppendSeq(slices.Collect(maps.Values(f.records)), maps.Values(f.learnt))
	known = slices.AppendSeq(known, maps.Values(f.onLAN))
	if len(known) == 0 {
		return
	}
	f.tasks = append(f.tasks, func() {
		for _, rec := range known {
			found(rec)
		}
	})
	f.signal()
}

// Drop implements relay.Finder.
func (f *fixedFinder) Drop(app protocol.AppID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.wanted, app)
}

// Own implements relay.Finder.
func (f *fixedFinder) Own() *protocol.SignedRecord {
	if r := f.own(); r != nil {
		return r.Signed
	}
	return nil
}

// own is the node's record, signed anew long before it expires.
func (f *fixedFinder) own() *protocol.Record {
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.urls) == 0 {
		return nil
	}
	if f.signed != nil && !f.stale && now.Sub(time.UnixMilli(f.signed.Seq)) < protocol.RecordTTL/4 {
		return f.signed
	}
	r := &protocol.Record{Seq: now.UnixMilli(), TTL: protocol.RecordTTL, URLs: f.urls}
	if f.signed != nil {
		r.Seq = max(r.Seq, f.signed.Seq+1)
	}
	if f.fill != nil {
		f.fill(r)
	}
	if err := protocol.SignRecord(f.key, r); err != nil {
		f.log.Error("own record cannot be signed", "err", err)
		return nil
	}
	f.signed, f.stale = r, false
	return r
}

func (f *fixedFinder) ownURLs() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.urls
}

// setURLs changes the record, and has it signed anew: its ports may be others too.
func (f *fixedFinder) setURLs(urls []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.urls, f.stale = urls, true
}

// Check implements relay.Finder. A node that is not there shows when it is
// dialled. There is no DHT to say what it serves, so it is told of for all apps.
func (f *fixedFinder) Check(records []*protocol.SignedRecord, found func(*protocol.Record)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.tasks) >= maxTasks {
		return
	}
	f.tasks = append(f.tasks, func() {
		for _, s := range records {
			if rec, err := s.Verify(protocol.NodeID{}, time.Now()); err == nil && rec.Node != f.self {
				found(rec)
				f.learn(rec)
			}
		}
	})
	f.signal()
}

func (f *fixedFinder) known() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	ids := make(map[protocol.NodeID]struct{}, len(f.learnt)+len(f.onLAN)+len(f.records))
	for _, rec := range f.records {
		ids[rec.Node] = struct{}{}
	}
	for _, list := range []map[protocol.NodeID]*protocol.Record{f.learnt, f.onLAN} {
		for id := range list {
			ids[id] = struct{}{}
		}
	}
	return len(ids)
}
