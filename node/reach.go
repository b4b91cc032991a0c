package node

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/relay"
)

// How a node finds out by what addresses it is known outside, and which of its
// ports are reached there.
const (
	reachEvery = 10 * time.Minute
	reachSoon  = time.Minute      // after a round that left something open or changed it, then twice as long each time
	reachGap   = 20 * time.Second // between two rounds at least: who is asked has a quota
	reachPoll  = 2 * time.Second  // between two looks at what has changed
	seenTime   = 3 * time.Second  // that a STUN server may take
	askTime    = protocol.ProbeTime + 5*time.Second

	mostServers    = 8   // STUN servers asked in a round, for each family
	mostAsked      = 6   // nodes asked to try one thing
	mostCandidates = 2   // addresses of each family that are tried
	mostKnown      = 256 // records that are looked through for STUN servers
)

// What Reach says of a port.
const (
	reachUnknown = "unknown" // nobody could be asked, or they do not agree
	reachYes     = "reached"
	reachNo      = "failed"
)

// Reach says how the node is reached from outside, as other nodes have tried it.
// It has no address.
type Reach struct {
	TCP     string `json:"tcp"`               // the node's port: "reached", "failed" or "unknown"
	STUN    string `json:"stun"`              // the same of the UDP port of STUN
	Since   int64  `json:"since"`             // unix s, of the last change of these; 0: none yet
	PortMap string `json:"portmap,omitempty"` // with --portmap: "pcp", "nat-pmp" or "upnp"; "none" while no router does it
}

// outside is what a round has found, as the record and others need it.
type outside struct {
	public []netip.Addr
	urls   []string // reached; only where the node finds its own
	stun   string   // as in Reach
	ports  mapped
}

// mapped are the ports by which a router lets in what is for the node's own; 0:
// it is the same.
type mapped struct {
	address   netip.Addr // of the router outside, as it says; not valid if it does not
	tcp       uint16     // of the node
	stun      uint16     // UDP
	mapper    string     // as in Reach.PortMap
	udpByPeer bool       // stun is what other nodes see, and no router says
}

// reach asks other nodes, now and then. All it does goes through functions, so
// that tests need no network.
type reach struct {
	// Static.
	log        *slog.Logger
	private    bool     // any two nodes are enough, and private addresses good
	urls       []string // given by the operator; then none are found
	blind      bool     // it has no URL that could be found: its port speaks TLS
	tcp, stun  uint16   // the node's own ports; stun may be 0
	discover   func(ctx context.Context, server netip.AddrPort) (netip.AddrPort, error)
	neighbours func() []relay.Neighbour
	known      func(n int) []*protocol.Record
	probe      func(ctx context.Context, node protocol.NodeID, url string, stunPort uint16) (protocol.Probe_Outcome, error)
	lookup     func(ctx context.Context, host string) ([]netip.Addr, error)
	interfaces func() []netip.Addr
	mapped     func() mapped // nil: no port mapping
	changed    func(o *outside)

	// Owned by serve.
	natPort uint16   // of STUN, as the servers see it; 0: not known, or not one
	found   []string // URLs that were reached
	warned  bool

	mu    sync.Mutex
	state Reach
}

// situation is what a change of makes a new round worth it.
type situation struct {
	interfaces string
	neighbours int // up to as many as are needed
	mapped     mapped
}

func (r *reach) situation() situation {
	s := situation{neighbours: min(len(r.neighbours()), 3)}
	var b strings.Builder
	for _, a := range r.interfaces() {
		b.WriteString(a.String() + " ")
	}
	s.interfaces = b.String()
	if r.mapped != nil {
		s.mapped = r.mapped()
	}
	return s
}

// serve looks after it until ctx ends.
func (r *reach) serve(ctx context.Context) error {
	var last situation
	var done, next time.Time
	open := 0 // rounds since something was left open
	for sleep(ctx, reachPoll) {
		now, seen := time.Now(), r.situation()
		moved := seen.interfaces != last.interfaces || seen.mapped != last.mapped
		due := now.After(next) || moved || seen.neighbours > last.neighbours
		if seen.neighbours == 0 || !due || now.Sub(done) < reachGap {
			continue
		}
		if seen != last {
			open = 0
		}
		wait := reachEvery
		if r.round(ctx, seen.mapped) {
			open = 0
		} else {
			wait = min(reachSoon<<open, reachEvery)
			open = min(open+1, 8)
		}
		last, done = seen, time.Now()
		next = done.Add(wait)
	}
	return nil
}

// round asks once. It reports false when it is worth asking again soon.
func (r *reach) round(ctx context.Context, m mapped) (settled bool) {
	o := &outside{stun: reachUnknown, ports: m}
	if r.stun != 0 {
		// Before any STUN server of theirs is asked: what a NAT has sent to, it lets in.
		if o.ports.stun == 0 && r.natPort != 0 && r.natPort != r.stun {
			o.ports.stun, o.ports.udpByPeer = r.natPort, true
		}
		port := r.stun
		if o.ports.stun != 0 {
			port = o.ports.stun
		}
		o.stun = r.ask(ctx, netip.Addr{}, "", port)
	}
	o.public = r.addresses(ctx, m)
	tcp := reachUnknown
	if len(r.urls) > 0 {
		tcp = r.tryOwn(ctx)
	} else if !r.blind {
		tcp = r.tryFound(ctx, o)
	}
	if ctx.Err() != nil {
		return true
	}
	before := r.now()
	r.keep(tcp, o)
	r.changed(o)
	after := r.now()
	return after == before && after.TCP != reachUnknown
}

// tryOwn has the operator's URLs tried: one that is reached is enough.
func (r *reach) tryOwn(ctx context.Context) string {
	verdict := reachUnknown
	for _, u := range r.urls[:min(len(r.urls), mostCandidates)] {
		switch r.ask(ctx, netip.Addr{}, u, 0) {
		case reachYes:
			return reachYes
		case reachNo:
			verdict = reachNo
		}
	}
	return verdict
}

// tryFound has the node's port tried at the addresses that it may be known by.
func (r *reach) tryFound(ctx context.Context, o *outside) string {
	verdict := reachUnknown
	for _, a := range r.candidates(o) {
		port := r.tcp
		if a.Is4() && o.ports.tcp != 0 {
			port = o.ports.tcp
		}
		url, err := protocol.ParseLinkURL("ws://" + netip.AddrPortFrom(a, port).String())
		if err != nil {
			continue
		}
		switch r.ask(ctx, a, url.String(), 0) {
		case reachYes:
			verdict, o.urls = reachYes, append(o.urls, url.String())
		case reachNo:
			if verdict == reachUnknown {
				verdict = reachNo
			}
		default: // as before
			if slices.Contains(r.found, url.String()) {
				o.urls = append(o.urls, url.String())
			}
		}
	}
	r.found = o.urls
	return verdict
}

// candidates are the addresses that others see, and those of the machine itself.
func (r *reach) candidates(o *outside) []netip.Addr {
	var list []netip.Addr
	count := make(map[bool]int)
	for _, a := range append(slices.Clone(o.public), r.interfaces()...) {
		if r.good(a) && !slices.Contains(list, a) && count[a.Is4()] < mostCandidates {
			list = append(list, a)
			count[a.Is4()]++
		}
	}
	return list
}

// good says whether an address may be one of this node from outside.
func (r *reach) good(a netip.Addr) bool {
	return protocol.Public(a) || (r.private && a.IsValid() && !a.IsLoopback() && !a.IsLinkLocalUnicast() && !a.IsMulticast() && !a.IsUnspecified())
}

// ask has other nodes try one thing, and takes the word of two that agree, or of
// the only one there is. Only those whose link is of the family of at can, if
// that is valid; who refuses does not count.
func (r *reach) ask(ctx context.Context, at netip.Addr, url string, stunPort uint16) string {
	var yes, no int
	all := r.neighbours()
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	asked := 0
	for _, n := range all {
		if at.IsValid() && n.Address.IsValid() && at.Is4() != n.Address.Is4() {
			continue
		}
		if asked++; asked > mostAsked || ctx.Err() != nil {
			break
		}
		ctx, cancel := context.WithTimeout(ctx, askTime)
		outcome, err := r.probe(ctx, n.Node, url, stunPort)
		cancel()
		if err != nil {
			continue
		}
		switch outcome {
		case protocol.Probe_OUTCOME_REACHED:
			yes++
		case protocol.Probe_OUTCOME_FAILED:
			no++
		}
		if yes == 2 || no == 2 {
			break
		}
	}
	switch {
	case yes > no:
		return reachYes
	case no > yes:
		return reachNo
	}
	return reachUnknown
}

// now is what is known.
func (r *reach) now() Reach {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state
}

// keep remembers what a round has found, and says it once when the node is not
// reached. What could not be asked for stays as it was.
func (r *reach) keep(tcp string, o *outside) {
	r.mu.Lock()
	before := r.state
	if tcp != reachUnknown {
		r.state.TCP = tcp
	}
	if o.stun == reachUnknown {
		o.stun = before.STUN
	}
	r.state.STUN = o.stun
	if r.state != before {
		r.state.Since = time.Now().Unix()
	}
	now := r.state
	r.mu.Unlock()
	bad := now.TCP == reachNo || now.STUN == reachNo
	switch {
	case bad && !r.warned:
		r.log.Warn("other nodes do not reach this one's ports", "tcp", now.TCP, "stun", now.STUN, "do", r.advice(now))
	case !bad && r.warned:
		r.log.Info("other nodes reach this one's ports now", "tcp", now.TCP, "stun", now.STUN)
	}
	r.warned = bad
}

// advice is what the operator can do about it.
func (r *reach) advice(now Reach) string {
	var ports []string
	if now.TCP == reachNo {
		ports = append(ports, "TCP "+strconv.Itoa(int(r.tcp)))
	}
	if now.STUN == reachNo {
		ports = append(ports, "UDP "+strconv.Itoa(int(r.stun)))
	}
	text := "forward " + strings.Join(ports, " and ") + " to this machine, in the router and in the firewall"
	if r.mapped == nil {
		text += ", or have the router do it with --portmap"
	}
	if now.TCP == reachNo && len(r.urls) == 0 {
		text += ", or put the node behind a reverse proxy and say its address with --url; until then it links to others and is not linked to"
	}
	return text
}
