package relay

import (
	"context"
	"net/http"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

const (
	maxKnownNodes = 4096
	maxNodeApps   = 256
	maxDialling   = 16
)

// mesh is what is known of other nodes, and which dials are due. Guarded by
// Relay.mu.
type mesh struct {
	nodes    map[protocol.NodeID]*node
	book     *dialBook
	dialling int
}

// node is another node with a verified record.
type node struct {
	record *protocol.Record
	apps   map[protocol.AppID]struct{} // for which it was found
	dials  bool                        // one is under way
}

func (m *mesh) init(trusted bool) {
	m.nodes = make(map[protocol.NodeID]*node)
	m.book = newDialBook()
	m.book.trusted = trusted
}

func (m *mesh) known() int { return len(m.nodes) }

// forget ends interest in an app.
func (m *mesh) forget(app protocol.AppID) {
	for id, n := range m.nodes {
		delete(n.apps, app)
		if len(n.apps) == 0 && !n.dials {
			delete(m.nodes, id)
		}
	}
}

// found takes a verified record of a node that serves an app.
func (r *Relay) found(app protocol.AppID, rec *protocol.Record) {
	if rec == nil || rec.Node == r.self {
		return
	}
	r.mu.Lock()
	n := r.mesh.nodes[rec.Node]
	if n == nil {
		if len(r.mesh.nodes) >= maxKnownNodes {
			r.evictNode()
		}
		n = &node{record: rec, apps: make(map[protocol.AppID]struct{})}
		r.mesh.nodes[rec.Node] = n
	}
	if rec.Seq >= n.record.Seq {
		n.record = rec
	}
	if len(n.apps) < maxNodeApps {
		n.apps[app] = struct{}{}
	}
	r.mu.Unlock()
	r.consider(rec.Node)
}

// evictNode drops a random node without a link. Called with mu held.
func (r *Relay) evictNode() {
	for id, n := range r.mesh.nodes {
		if r.links[id] == nil && !n.dials {
			delete(r.mesh.nodes, id)
			return
		}
	}
}

// dialMore dials nodes that were found and are not linked, as the dial policy
// lets it.
func (r *Relay) dialMore() {
	r.mu.Lock()
	due := make([]protocol.NodeID, 0, 16)
	for id, n := range r.mesh.nodes {
		if l := r.links[id]; l == nil && !n.dials && len(n.apps) > 0 {
			if due = append(due, id); len(due) >= maxDialling {
				break
			}
		}
	}
	r.mu.Unlock()
	for _, id := range due {
		r.consider(id)
	}
}

// redial brings a lost link back.
func (r *Relay) redial(l *link, now instant) {
	l.mu.Lock()
	wait := l.w != nil || now < l.drainUntil
	l.mu.Unlock()
	if !wait {
		r.consider(l.node)
	}
}

// consider dials a node unless there is a link, a dial under way, or no reason.
func (r *Relay) consider(id protocol.NodeID) {
	if r.cfg.Dialer == nil {
		return
	}
	app, mesh := r.reason(id)
	if !app && !mesh {
		return
	}
	r.mu.Lock()
	n := r.mesh.nodes[id]
	if n == nil || n.dials || r.mesh.dialling >= maxDialling || r.linkLive(id, app) {
		r.mu.Unlock()
		return
	}
	url, ok := r.dialable(n)
	if ok {
		n.dials = true
		r.mesh.dialling++
	}
	r.mu.Unlock()
	if !ok {
		return
	}
	started := r.goWhileServing(func(ctx context.Context) { r.dial(ctx, id, n, url) })
	if !started {
		r.dialled(n)
	}
}

func (r *Relay) dialled(n *node) {
	r.mu.Lock()
	n.dials = false
	r.mesh.dialling--
	r.mu.Unlock()
}

// linkLive says that a node is not to be dialled now: there is a link, or it
// ended on purpose, or there are too many. Called with mu held.
func (r *Relay) linkLive(id protocol.NodeID, app bool) bool {
	l := r.links[id]
	if l == nil {
		return len(r.links) >= protocol.MaxLinks
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := r.now()
	return l.w != nil || now < l.drainUntil || (!app && now < l.idleUntil)
}

// reason says whether a node is worth a link, for an app that has room for one
// more, or for the mesh, which wants a few.
func (r *Relay) reason(id protocol.NodeID) (app, mesh bool) {
	r.mu.Lock()
	n := r.mesh.nodes[id]
	var apps []*swarm
	if n != nil {
		for app := range n.apps {
			if s := r.swarms[app]; s != nil {
				apps = append(apps, s)
			}
			mesh = mesh || app == protocol.MeshApp
		}
	}
	links := len(r.links)
	r.mu.Unlock()
	for _, s := range apps {
		s.mu.Lock()
		room := len(s.members) > 0 && len(s.remotes) < protocol.MaxAppLinks
		s.mu.Unlock()
		if room {
			return true, mesh
		}
	}
	return false, mesh && links < protocol.MeshLinks
}

// dialable picks a URL of the node that the policy lets us dial now. Called
// with mu held.
func (r *Relay) dialable(n *node) (protocol.LinkURL, bool) {
	now := time.Now()
	for _, s := range n.record.URLs {
		u, err := protocol.ParseLinkURL(s)
		if err != nil {
			continue
		}
		if ok, _ := r.mesh.book.mayDial(u.String(), now); ok {
			r.mesh.book.dialled(u.String(), now)
			return u, true
		}
	}
	return protocol.LinkURL{}, false
}

// dial opens a link and serves it until it ends.
func (r *Relay) dial(ctx context.Context, id protocol.NodeID, n *node, url protocol.LinkURL) {
	w, l, reached := r.open(ctx, id, url)
	r.mu.Lock()
	switch {
	case reached:
		r.mesh.book.succeeded(url.String(), time.Now())
	case ctx.Err() == nil:
		r.mesh.book.failed(url.String(), time.Now())
	}
	r.mu.Unlock()
	if w != nil && l.attach(w) {
		r.dialled(n)
		w.serve()
		r.consider(id)
		return
	}
	if w != nil {
		w.sc.close(1000)
	}
	r.dialled(n)
}

// open dials and shakes hands. reached says that the node is there; the wire is
// nil all the same when there is no room for its link.
func (r *Relay) open(ctx context.Context, id protocol.NodeID, url protocol.LinkURL) (w *wire, l *link, reached bool) {
	ctx, cancel := context.WithTimeout(ctx, protocol.Handshake)
	defer cancel()
	conn, err := r.cfg.Dialer.Dial(ctx, url)
	if err != nil {
		r.log.Debug("link not dialled", "node", id.Short(), "err", err)
		return nil, nil, false
	}
	sc, g, err := handshake(ctx, conn, protocol.Dialler, r.id, r.own(), url.String())
	if err == nil && g.node != id {
		err = protocol.Errorf(protocol.CodeSignature, "another node answers at the address of %s", id.Short())
	}
	if err != nil {
		conn.Close(closeFor(err))
		r.log.Debug("link not opened", "node", id.Short(), "err", err)
		return nil, nil, false
	}
	if l = r.linkTo(g); l == nil {
		sc.close(protocol.CloseTryAgainLater)
		return nil, nil, true
	}
	l.mu.Lock()
	l.url, l.chosen = url.String(), true
	l.mu.Unlock()
	return r.newWire(l, sc, true), l, true
}

func (r *Relay) newWire(l *link, sc *secureConn, dialed bool) *wire {
	return &wire{l: l, sc: sc, remote: remoteIP(sc.conn), dialed: dialed, wake: make(chan struct{}, 1), done: make(chan struct{})}
}

func closeFor(err error) int {
	var e *protocol.Error
	if !asError(err, &e) {
		return 1000
	}
	if e.Code == protocol.CodeVersion {
		return protocol.CloseVersion
	}
	return protocol.CloseMalformed
}

func (r *Relay) own() *protocol.SignedRecord {
	if r.cfg.Finder == nil {
		return nil
	}
	return r.cfg.Finder.Own()
}

// linkTo finds or makes the link of a node, nil when there are too many.
func (r *Relay) linkTo(g *greeting) *link {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.links[g.node]
	if l == nil {
		if len(r.links) >= protocol.MaxLinks || r.closing {
			return nil
		}
		l = r.newLink(g.node)
		r.links[g.node] = l
	}
	if g.record != nil {
		r.keepRecord(l, g.record)
	}
	return l
}

// keepRecord takes the record of a linked node from itself; without URLs it takes
// back the one before. Called with mu held.
func (r *Relay) keepRecord(l *link, rec *protocol.Record) {
	l.mu.Lock()
	if l.record = rec; len(rec.URLs) == 0 {
		l.record = nil
	}
	l.mu.Unlock()
	if n := r.mesh.nodes[l.node]; n != nil && rec.Seq >= n.record.Seq {
		n.record = rec
	} else if n == nil && len(r.mesh.nodes) < maxKnownNodes {
		// Known from now on, so that the link can be brought back.
		r.mesh.nodes[l.node] = &node{record: rec, apps: map[protocol.AppID]struct{}{protocol.MeshApp: {}}}
	}
}

// HandleLink takes a link that another node dialled, on /link, and serves it. The
// request's RemoteAddr is where that node is, also behind a proxy.
func (r *Relay) HandleLink(rw http.ResponseWriter, q *http.Request) {
	select {
	case r.handles <- struct{}{}:
	default:
		http.Error(rw, "too many handshakes under way, try again", http.StatusServiceUnavailable)
		return
	}
	conn, err := acceptWS(rw, q)
	if err != nil {
		<-r.handles
		return
	}
	if !r.goWhileServing(func(ctx context.Context) { r.accept(ctx, conn) }) {
		<-r.handles
		conn.Close(protocol.CloseServiceRestart)
	}
}

// accept shakes hands as responder and serves the link. It gives back the slot
// that its caller took from r.handles.
func (r *Relay) accept(ctx context.Context, conn Conn) {
	hctx, cancel := context.WithTimeout(ctx, protocol.Handshake)
	sc, g, err := handshake(hctx, conn, protocol.Responder, r.id, r.own(), "")
	cancel()
	<-r.handles
	if err != nil {
		conn.Close(closeFor(err))
		r.log.Debug("link refused", "err", err)
		return
	}
	l := r.linkTo(g)
	if l == nil {
		sc.close(protocol.CloseTryAgainLater)
		return
	}
	w := r.newWire(l, sc, false)
	if !l.attach(w) {
		w.sc.close(1000)
		return
	}
	w.serve()
	r.consider(g.node)
}

// introduceNodes hands a node that came to an app the records of the others,
// and them its own. Called with s.mu held.
func (r *Relay) introduceNodes(s *swarm, rem *remote) {
	rem.l.mu.Lock()
	own := rem.l.record
	rem.l.mu.Unlock()
	f := new(protocol.Nodes)
	for other := range s.remotes {
		if other == rem.l {
			continue
		}
		other.mu.Lock()
		if other.record != nil && other.w != nil && len(f.Records) < protocol.MaxNodesRecords {
			f.Records = append(f.Records, other.record.Signed)
		}
		if own != nil && other.w != nil {
			other.w.looseFrame(nodesFrame(s.remotes[other].theirs, own.Signed))
		}
		other.mu.Unlock()
	}
	if len(f.Records) > 0 {
		rem.l.mu.Lock()
		if rem.l.w != nil {
			rem.l.w.looseFrame(nodesFrame(rem.theirs, f.Records...))
		}
		rem.l.mu.Unlock()
	}
}

// tellMost is how many links a node has when it stops to tell all of them of a
// new one. In a larger mesh there is a DHT to ask.
const tellMost = 2 * protocol.MaxNodesRecords

// introduceMesh hands a node that is linked for the first time the records of
// some others, whatever their apps, and them its own: so those who know of one
// node know of all, also without a DHT.
func (r *Relay) introduceMesh(l *link) {
	r.mu.Lock()
	links := r.allLinks() // in the order of a map
	r.mu.Unlock()
	l.mu.Lock()
	own, met := l.record, l.introduced
	l.introduced = true
	l.mu.Unlock()
	if met {
		return
	}
	f := new(protocol.Nodes)
	for _, other := range links {
		if other == l {
			continue
		}
		other.mu.Lock()
		if other.w != nil && other.w.resumed {
			if other.record != nil && len(f.Records) < protocol.MaxNodesRecords {
				f.Records = append(f.Records, other.record.Signed)
			}
			if own != nil && len(links) <= tellMost {
				other.w.looseFrame(nodesFrame(0, own.Signed))
			}
		}
		other.mu.Unlock()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(f.Records) > 0 && l.w != nil {
		l.w.looseFrame(&protocol.Frame{Body: &protocol.Frame_Nodes{Nodes: f}})
	}
}

func nodesFrame(app uint32, records ...*protocol.SignedRecord) *protocol.Frame {
	return &protocol.Frame{Body: &protocol.Frame_Nodes{Nodes: &protocol.Nodes{App: app, Records: records}}}
}

// onNodes has the records that another node handed over checked, and dials who
// is there.
func (r *Relay) onNodes(l *link, f *protocol.Nodes) {
	app := protocol.MeshApp
	if rem := l.remote(f.App); rem != nil {
		app = rem.s.app
	} else if f.App != 0 {
		return
	}
	if r.cfg.Finder == nil || len(f.Records) > protocol.MaxNodesRecords {
		return
	}
	fresh := make([]*protocol.SignedRecord, 0, len(f.Records))
	now := r.now()
	for _, rec := range f.Records {
		if len(rec.Key) != len(protocol.NodeID{}) || protocol.NodeID(rec.Key) == r.self {
			continue
		}
		r.mu.Lock()
		var known *protocol.Record
		if n := r.mesh.nodes[protocol.NodeID(rec.Key)]; n != nil {
			known = n.record
		}
		linked := r.links[protocol.NodeID(rec.Key)] != nil
		r.mu.Unlock()
		switch {
		case protocol.NodeID(rec.Key) == l.node:
			r.onOwnRecord(l, rec, now)
		case linked:
		case known != nil && known.Seq >= rec.Seq:
			r.found(app, known)
		case l.allowKey(now):
			fresh = append(fresh, rec)
		}
	}
	if len(fresh) > 0 {
		r.cfg.Finder.Check(fresh, func(rec *protocol.Record) { r.found(app, rec) })
	}
}

// allowKey bounds the records taken from one node in an hour.
func (l *link) allowKey(now instant) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now-l.keysSince >= ns(time.Hour) {
		l.keysSince, l.keys = now, 0
	}
	l.keys++
	return l.keys <= protocol.NodesPerHour
}

// Drain says goodbye on all links: the other nodes place elsewhere what was
// meant for this one, and do not dial it for a while.
func (r *Relay) Drain(ctx context.Context) {
	r.mu.Lock()
	links := r.allLinks()
	r.mu.Unlock()
	left := protocol.ClientDrain
	if d, ok := ctx.Deadline(); ok {
		left = max(time.Until(d), time.Millisecond)
	}
	for _, l := range links {
		l.shut(protocol.Bye_CODE_DRAIN, left)
	}
}
