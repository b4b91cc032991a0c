package node

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// drain lets clients and nodes go elsewhere first. New clients and links are
// refused from now on; other nodes are told at once and place elsewhere what
// was meant for this one; clients are closed one after the other, with a code
// by which they know that another node will do. The port stays open until all
// have gone, so that whoever comes is told and not left waiting.
func (n *Node) drain(ctx context.Context, server *http.Server) {
	ctx, cancel := context.WithTimeout(ctx, protocol.ClientDrain+time.Second)
	defer cancel()
	n.log.Info("draining", "clients", n.host.Stats().Clients, "links", n.relay.Stats().Links)
	var parts sync.WaitGroup
	parts.Go(func() { n.relay.Drain(ctx) })
	parts.Go(func() { n.host.Drain(ctx) })
	parts.Wait()
	if err := server.Shutdown(ctx); err != nil {
		n.log.Debug("stopped with requests under way", "err", err)
	}
}

// link takes another node's link, unless the node is about to stop.
func (n *Node) link(w http.ResponseWriter, q *http.Request) {
	if n.host.Draining() {
		http.Error(w, "this node is about to stop", http.StatusServiceUnavailable)
		return
	}
	n.relay.HandleLink(w, n.spokenFor(q))
}

// spokenFor is a request with the address that a trusted proxy has it from, so
// that it is that node's ports which are tried when it asks, and not the proxy's.
func (n *Node) spokenFor(q *http.Request) *http.Request {
	from, err := netip.ParseAddrPort(q.RemoteAddr)
	hops := strings.Join(q.Header.Values("X-Forwarded-For"), ",")
	if err != nil || hops == "" || !n.trusted(from.Addr().Unmap()) {
		return q
	}
	p := *q
	p.RemoteAddr = netip.AddrPortFrom(n.client(from.Addr().Unmap(), hops), 0).String()
	return &p
}

// health is for load balancers: it says no as soon as the node drains.
func (n *Node) health(w http.ResponseWriter, _ *http.Request) {
	status, code := "ok", http.StatusOK
	if n.host.Draining() {
		status, code = "draining", http.StatusServiceUnavailable
	}
	writeJSON(w, code, map[string]string{"status": status})
}
