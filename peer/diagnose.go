package peer

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/pion/stun/v4"
	"github.com/pion/transport/v4"
	"github.com/pion/transport/v4/stdnet"
	"github.com/pion/webrtc/v4"
)

const (
	triedFor = 6 * time.Second // a server, its name and its connection included
	maxTried = 16              // URLs
)

// Diagnosis is what stands between this machine and others. It is plain data, fit
// for JSON.
type Diagnosis struct {
	Took     float64   `json:"ms"`
	STUN     []Tried   `json:"stun"`
	TURN     []Tried   `json:"turn"`
	NAT      NAT       `json:"nat"`
	UDP      UDP       `json:"udp"`
	Troubles []Trouble `json:"troubles"` // the gravest first; none: all is well
}

// Tried is a server that was tried.
type Tried struct {
	URL       string         `json:"url"`
	Transport string         `json:"transport"` // udp, tcp or tls
	OK        bool           `json:"ok"`
	Took      float64        `json:"ms"`               // to the answer, or until it was given up
	Mapped    netip.AddrPort `json:"mapped,omitzero"`  // of STUN: where the server sees this machine
	Relayed   netip.AddrPort `json:"relayed,omitzero"` // of TURN: the address that it gave, and has back
	Why       WhyNot         `json:"why,omitempty"`    // of one that is not OK

	at netip.AddrPort // the server
}

// WhyNot is why a server is of no use: a code that stays the same.
type WhyNot string

// Why a server is of no use.
const (
	WhyNoReply WhyNot = "no_reply" // nothing came, or nothing that is STUN
	WhyDenied  WhyNot = "denied"   // it did not take the credentials
	WhyFull    WhyNot = "full"     // it has no room for this peer
	WhyBadURL  WhyNot = "bad_url"  // pion does not know such a server, or its name is not found
)

// NAT is what is between this machine and the servers, by where two of them see
// one socket of it (RFC 5780, 4.3).
type NAT string

// NATs.
const (
	NATNone      NAT = "none"      // the address is this machine's own
	NATCone      NAT = "cone"      // all see the same one: mapping is endpoint independent, and direct ways work with most
	NATSymmetric NAT = "symmetric" // each sees another one: many need TURN
	NATUnknown   NAT = "unknown"   // fewer than two servers on different addresses have answered
)

// UDP is whether UDP passes.
type UDP string

// Whether UDP passes.
const (
	UDPOpen    UDP = "open"
	UDPBlocked UDP = "blocked" // no server has answered by UDP, and one has by TCP or TLS
	UDPUnknown UDP = "unknown"
)

// Trouble is something that keeps connections from coming to be or from being
// good: a code for programs, and for people a sentence of what to do.
type Trouble struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

// Diagnose tries servers as connections use them, all at once and each for some
// seconds, and gives back what they gave. STUN is asked from one socket for each
// of IPv4 and IPv6. On nil the network is this machine's. It ends early with ctx,
// and then says what it knows.
func Diagnose(ctx context.Context, servers []webrtc.ICEServer, on transport.Net) *Diagnosis {
	if on == nil {
		on = sockets{new(stdnet.Net)}
	}
	ctx, cancel := context.WithTimeout(ctx, triedFor)
	defer cancel()
	began := time.Now()
	d := new(Diagnosis)
	var turns []turnTry
	for _, s := range servers {
		for _, u := range s.URLs {
			t := Tried{URL: u, Transport: "udp", Why: WhyBadURL}
			uri, err := stun.ParseURI(u)
			switch {
			case len(d.STUN)+len(d.TURN) == maxTried:
			case err != nil || uri.Scheme == stun.SchemeTypeSTUN || uri.Scheme == stun.SchemeTypeSTUNS:
				d.STUN = append(d.STUN, t)
			default:
				t.Transport = turnTransport(uri)
				password, _ := s.Credential.(string)
				d.TURN = append(d.TURN, t)
				turns = append(turns, turnTry{uri, s.Username, password})
			}
		}
	}
	var all sync.WaitGroup
	all.Go(func() { trySTUN(ctx, on, d.STUN) })
	for i := range turns {
		all.Go(func() { turns[i].run(ctx, on, &d.TURN[i]) })
	}
	all.Wait()
	d.NAT, d.UDP = natOf(d.STUN, ownAddresses(on)), d.udp()
	d.Troubles = d.troubles()
	d.Took = milliseconds(began)
	return d
}

// Diagnose tries the servers of the room, as the function of that name does from
// this machine's own network, and looks at the node and at the peers as well.
func (r *Room) Diagnose(ctx context.Context) *Diagnosis {
	d := Diagnose(ctx, r.servers.list(false, time.Now()), nil)
	var more []string
	if r.Node() == "" {
		more = append(more, "node_gone")
	}
	if slices.ContainsFunc(r.Peers(), func(p *Peer) bool { return p.Path() == PathNodes }) {
		more = append(more, "peers_over_nodes")
	}
	for _, code := range more {
		d.Troubles = append(d.Troubles, Trouble{code, troubleText(code)})
	}
	return d
}

func milliseconds(since time.Time) float64 {
	return float64(time.Since(since).Microseconds()) / 1000
}

// ownAddresses are those of a network's interfaces.
func ownAddresses(on transport.Net) (list []netip.Addr) {
	interfaces, err := on.Interfaces()
	if err != nil {
		return nil
	}
	for _, i := range interfaces {
		addrs, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				list = append(list, p.Addr().Unmap())
			}
		}
	}
	return list
}

// natOf compares where servers see one socket. That two of one address see the
// same shows nothing of others.
func natOf(tried []Tried, own []netip.Addr) NAT {
	kind := NATUnknown
	for i, t := range tried {
		if !t.OK {
			continue
		}
		if slices.Contains(own, t.Mapped.Addr()) {
			return NATNone
		}
		for _, o := range tried[:i] {
			if !o.OK || o.at == t.at || o.at.Addr().Is4() != t.at.Addr().Is4() {
				continue
			}
			if o.Mapped != t.Mapped {
				return NATSymmetric
			}
			if o.at.Addr() != t.at.Addr() {
				kind = NATCone
			}
		}
	}
	return kind
}

func (d *Diagnosis) udp() UDP {
	answers := UDPUnknown
	for _, t := range append(slices.Clone(d.STUN), d.TURN...) {
		switch {
		case !t.answered():
		case t.Transport == "udp":
			return UDPOpen
		case slices.ContainsFunc(append(slices.Clone(d.STUN), d.TURN...), func(o Tried) bool { return o.Transport == "udp" && o.Why == WhyNoReply }):
			answers = UDPBlocked
		}
	}
	return answers
}

// answered says whether the server was there.
func (t *Tried) answered() bool { return t.OK || t.Why == WhyDenied || t.Why == WhyFull }

// troubles are those that the codes of the browser's SDK name as well.
func (d *Diagnosis) troubles() (list []Trouble) {
	turn := func(why WhyNot, but string) bool {
		return slices.ContainsFunc(d.TURN, func(t Tried) bool { return t.Why == why && t.Transport != but })
	}
	relays := slices.ContainsFunc(d.TURN, func(t Tried) bool { return t.OK })
	but := ""
	if d.UDP == UDPBlocked {
		but = "udp"
	}
	for _, c := range []struct {
		code  string
		there bool
	}{
		{"no_servers", len(d.STUN)+len(d.TURN) == 0},
		{"bad_url", turn(WhyBadURL, "") || slices.ContainsFunc(d.STUN, func(t Tried) bool { return t.Why == WhyBadURL })},
		{"udp_blocked", d.UDP == UDPBlocked},
		{"stun_no_reply", d.UDP != UDPBlocked && slices.ContainsFunc(d.STUN, func(t Tried) bool { return t.Why == WhyNoReply })},
		{"nat_symmetric", d.NAT == NATSymmetric && !relays},
		{"no_turn", len(d.TURN) == 0 && (d.NAT == NATSymmetric || d.UDP == UDPBlocked)},
		{"turn_denied", turn(WhyDenied, "")},
		{"turn_full", turn(WhyFull, "")},
		{"turn_no_reply", turn(WhyNoReply, but)},
	} {
		if c.there {
			list = append(list, Trouble{c.code, troubleText(c.code)})
		}
	}
	return list
}

// troubleText is what to do.
func troubleText(code string) string {
	switch code {
	case "no_servers":
		return "There is no STUN or TURN server, so peers of other networks are hardly reached: use a node that has them, or name some as ICEServers."
	case "bad_url":
		return "A server cannot be used: see whether its URL is right, and whether its name is found."
	case "udp_blocked":
		return "UDP does not pass: have the firewall of this network let it out, or use a node with TURN over TCP or TLS."
	case "stun_no_reply":
		return "A STUN server does not answer: see whether it is up, and whether UDP to its port passes the firewalls on the way."
	case "nat_symmetric":
		return "The router gives each destination another port, so that many direct connections fail: use a node with TURN, IPv6, or another router."
	case "no_turn":
		return "No TURN server is known, and this network may need one: use a node that runs with --turn, or name one as ICEServers."
	case "turn_denied":
		return "A TURN server does not take the credentials: join again, and see whether the clocks of the nodes are right."
	case "turn_full":
		return "A TURN server has no room for this peer: close what is not needed, or have the limits of the node raised."
	case "turn_no_reply":
		return "A TURN server does not answer: see whether it is up, and whether firewalls on the way let its port pass."
	case "node_gone":
		return "No node is reached: see whether it is up, whether its URL is right, and whether a firewall or proxy lets WebSockets pass."
	}
	return "Some peers are reached over nodes only, which is slow: see what else is told here, at their ends too."
}
