package node

import (
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/peerservers/peerserver/relay"
)

// adminWriteTimeout leaves room for a profile of some minutes.
const adminWriteTimeout = 10 * time.Minute

// maxListed is how many apps are listed unless the request asks for more.
const maxListed = 1000

const adminIndex = `The pages for the operator of this peerserver. Keep them to yourself: they show which apps are served.

/apps.json     apps by their hash, those with the most members first (?limit=%d)
/links.json    the other nodes that this one is linked to
/peers.json    how many clients there are, by door
/self.json     what this node is: its addresses and what bears on "peerserver doctor"
/stats.json    the totals that the public sees
/health        503 while the node drains
/metrics       for Prometheus
/debug/pprof/  profiles
`

// openAdmin opens the admin address, and leaves it in the data folder.
func (n *Node) openAdmin() (err error) {
	if n.cfg.Admin == "" {
		return n.data.sayAdmin("")
	}
	if n.adminListener, err = listen(n.cfg.Admin, "admin"); err != nil {
		return err
	}
	if !isLoopback(n.adminListener.Addr()) {
		n.log.Warn("the admin address is not on loopback: whoever reaches it sees which apps are served")
	}
	return n.data.sayAdmin(n.adminListener.Addr().String())
}

// adminPages are what the admin address serves.
func (n *Node) adminPages() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte(strings.Replace(adminIndex, "%d", strconv.Itoa(maxListed), 1)))
	})
	m.HandleFunc("GET /apps.json", n.adminApps)
	m.HandleFunc("GET /links.json", n.adminLinks)
	m.HandleFunc("GET /peers.json", n.adminPeers)
	m.HandleFunc("GET /self.json", n.adminSelf)
	m.HandleFunc("GET /stats.json", n.stats)
	m.HandleFunc("GET /health", n.health)
	m.Handle("GET /metrics", promhttp.HandlerFor(n.metrics(), promhttp.HandlerOpts{}))
	m.HandleFunc("GET /debug/pprof/", pprof.Index)
	m.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	m.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	m.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	m.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return n.onPurpose(m)
}

// onPurpose lets through what a person or a program asks for. A web page that
// the operator looks at can send requests to loopback too, as itself or, by a
// name that resolves to loopback, as if the pages were its own.
func (n *Node) onPurpose(next http.Handler) http.Handler {
	loopback := n.adminListener != nil && isLoopback(n.adminListener.Addr())
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		from := q.Header.Get("Sec-Fetch-Site")
		if (from != "" && from != "none" && from != "same-origin") || (loopback && !literal(q.Host)) {
			http.Error(w, "not for web pages; open this address itself, by its number", http.StatusForbidden)
			return
		}
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		next.ServeHTTP(w, q)
	})
}

func isLoopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// literal says whether a Host is an address or localhost: no name that anybody
// else could have chosen.
func literal(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil || host == "localhost"
}

// adminApp is one app in /apps.json.
type adminApp struct {
	App         string `json:"app"` // hash
	Members     int    `json:"members"`
	Seeders     int    `json:"seeders"`
	Subscribers int    `json:"subscribers"`
	Elsewhere   int    `json:"elsewhere"` // members on other nodes
	Nodes       int    `json:"nodes"`     // linked nodes that serve it too
}

func (n *Node) adminApps(w http.ResponseWriter, q *http.Request) {
	limit := maxListed
	if text := q.FormValue("limit"); text != "" {
		var err error
		if limit, err = strconv.Atoi(text); err != nil || limit < 0 {
			http.Error(w, "limit is not a number", http.StatusBadRequest)
			return
		}
	}
	apps := n.relay.Apps()
	list := make([]adminApp, 0, min(limit, len(apps)))
	for _, a := range apps[:min(limit, len(apps))] {
		list = append(list, adminApp{
			App: a.App.String(), Members: a.Members, Seeders: a.Seeders, Subscribers: a.Subscribers,
			Elsewhere: a.Elsewhere, Nodes: a.Nodes,
		})
	}
	writeJSON(w, http.StatusOK, map[string]any{"total": len(apps), "apps": list})
}

// adminLink is one link in /links.json.
type adminLink struct {
	Node     string   `json:"node"`
	URLs     []string `json:"urls"` // of its record; empty when it cannot be dialled
	Up       bool     `json:"up"`
	Dialled  bool     `json:"dialled"` // by this node
	Seconds  int      `json:"seconds"` // up or down for so long
	Draining bool     `json:"draining"`
	Apps     int      `json:"apps"`    // that both serve
	Waiting  int      `json:"waiting"` // frames that are not acknowledged yet
	Bytes    int      `json:"bytes"`   // of these
}

func (n *Node) adminLinks(w http.ResponseWriter, _ *http.Request) {
	links := n.relay.Links()
	list := make([]adminLink, 0, len(links))
	for _, l := range links {
		list = append(list, describeLink(l))
	}
	writeJSON(w, http.StatusOK, map[string]any{"links": list})
}

func describeLink(l relay.LinkInfo) adminLink {
	return adminLink{
		Node: l.Node.String(), URLs: l.URLs, Up: l.Up, Dialled: l.Dialled, Seconds: int(l.Since / time.Second),
		Draining: l.Draining, Apps: l.Apps, Waiting: l.Waiting, Bytes: l.Bytes,
	}
}

func (n *Node) adminPeers(w http.ResponseWriter, _ *http.Request) {
	s := n.Stats()
	writeJSON(w, http.StatusOK, map[string]any{"members": s.Relay.Members, "clients": s.Clients, "doors": s.Doors})
}
