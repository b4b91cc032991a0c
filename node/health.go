package node

import (
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// Seen is how a request has reached the node, at /v1/seen. It is what tells a
// proxy that does not say for whom it speaks from one that is not believed. It
// has no address in it.
type Seen struct {
	Time      int64  `json:"time"`      // unix ms by the node's clock; a proxy has a Date of its own
	Address   string `json:"address"`   // of the client as the quotas count it: "loopback", "private" or "public"
	Forwarded bool   `json:"forwarded"` // the request has an X-Forwarded-For
	Trusted   bool   `json:"trusted"`   // it came from a trusted proxy
}

func (n *Node) seen(w http.ResponseWriter, q *http.Request) {
	from, _ := netip.ParseAddrPort(q.RemoteAddr)
	at, hops := from.Addr().Unmap(), strings.Join(q.Header.Values("X-Forwarded-For"), ",")
	s := Seen{Time: time.Now().UnixMilli(), Forwarded: hops != "", Trusted: n.trusted(at)}
	if s.Trusted && s.Forwarded {
		at = n.client(at, hops)
	}
	s.Address = class(at)
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, http.StatusOK, s)
}

func (n *Node) trusted(a netip.Addr) bool {
	for _, p := range n.cfg.TrustedProxies {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// client is whom a trusted proxy speaks for: the last hop that is no trusted
// proxy itself, as for the quotas.
func (n *Node) client(proxy netip.Addr, hops string) netip.Addr {
	for _, hop := range slices.Backward(strings.Split(hops, ",")) {
		a, err := netip.ParseAddr(strings.TrimSpace(hop))
		if err != nil {
			return proxy
		}
		if a = a.Unmap(); !n.trusted(a) {
			return a
		}
	}
	return proxy
}

// class is what kind of address it is.
func class(a netip.Addr) string {
	switch {
	case a.IsLoopback():
		return "loopback"
	case protocol.Public(a):
		return "public"
	}
	return "private"
}

// Self is what a node says of itself to programs of the operator, at /self.json
// of the admin address. Addresses are as this machine reaches them.
type Self struct {
	Node      protocol.NodeID `json:"node"`
	Listen    string          `json:"listen"`         // TCP
	TLS       bool            `json:"tls"`            // there
	DHT       string          `json:"dht,omitempty"`  // UDP; none: without
	STUN      string          `json:"stun,omitempty"` // UDP; none: without
	Bootstrap []string        `json:"bootstrap"`      // none: mainline's well-known nodes
	Private   bool            `json:"private"`        // --allow-private
	Announced bool            `json:"announced"`      // others may find it
	Tokens    bool            `json:"tokens"`         // clients have to give one
	Proxies   int             `json:"proxies"`        // ranges of --trusted-proxy
	Public    []netip.Addr    `json:"public"`         // from outside, as far as it is known
	Time      int64           `json:"time"`           // unix ms
}

// Self is what the node says of itself to its operator.
func (n *Node) Self() Self {
	s := Self{
		Node: n.ID(), Listen: n.Addr().String(), TLS: n.tlsConfig() != nil, Bootstrap: n.cfg.Bootstrap, Private: n.cfg.AllowPrivate,
		Announced: !n.cfg.NoAnnounce, Tokens: len(n.cfg.Tokens) > 0, Proxies: len(n.cfg.TrustedProxies), Public: n.publicAddresses(),
		Time: time.Now().UnixMilli(),
	}
	if n.packets != nil {
		s.DHT = n.packets.LocalAddr().String()
	}
	if n.iceSockets.packets != nil {
		s.STUN = n.iceSockets.packets.LocalAddr().String()
	}
	return s
}

func (n *Node) adminSelf(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, n.Self())
}

// adminFile is where a data folder says which admin address its node has.
const adminFile = "admin"

// sayAdmin leaves the admin address in the data folder, for the programs of the
// operator. A node without admin pages leaves none.
func (d *dataFolder) sayAdmin(address string) error {
	if d == nil {
		return nil
	}
	path := filepath.Join(d.path, adminFile)
	if address == "" {
		_ = os.Remove(path) // mostly there is none
		return nil
	}
	if err := os.WriteFile(path, []byte(address+"\n"), 0o600); err != nil {
		return dataError(d.path, err)
	}
	return nil
}

// AdminOf is the admin address of the node that has a data folder, or that had
// it last; "" if it had none.
func AdminOf(data string) (string, error) {
	b, err := os.ReadFile(filepath.Join(data, adminFile))
	if err != nil && !os.IsNotExist(err) {
		return "", dataError(data, err)
	}
	return strings.TrimSpace(string(b)), nil
}
