package peer

import (
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/pion/webrtc/v4"

	"github.com/peerservers/peerserver/protocol"
)

// Path is how a peer is reached.
type Path int

// Paths.
const (
	PathDirect Path = 1 // by a connection from here to there
	PathTURN   Path = 2 // by a connection over a TURN server of one of both
	PathNodes  Path = 3 // not connected: what is said goes sealed over the nodes
)

func (p Path) String() string {
	switch p {
	case PathDirect:
		return "direct"
	case PathTURN:
		return "turn"
	case PathNodes:
		return "nodes"
	}
	return "none"
}

// MarshalText writes the name of the path.
func (p Path) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (p *Path) UnmarshalText(b []byte) error {
	for *p = PathDirect; *p <= PathNodes; *p++ {
		if p.String() == string(b) {
			return nil
		}
	}
	*p = 0
	return protocol.Errorf(protocol.CodeMalformed, "peer: %q is no path", b)
}

// Reason is why a way is not taken: a code that stays the same.
type Reason string

// Reasons.
const (
	ReasonNoCandidates Reason = "no_candidates" // one side has found no address for it, or has said nothing
	ReasonNoReply      Reason = "no_reply"      // it was tried, and nobody answered in time
	ReasonNoTURN       Reason = "no_turn"       // no TURN server is known
	ReasonTURNFailed   Reason = "turn_failed"   // none of those that are known has let this side in
	ReasonForbidden    Reason = "forbidden"     // by Options.NoNodeICE
)

// Whose TURN server it is.
const (
	ServerOwn    = "own"    // this side's
	ServerRemote = "remote" // the other side's
	ServerBoth   = "both"   // each side has its own
)

// Way is how a peer is reached, and why not in a better way.
type Way struct {
	Path      Path   `json:"path"`
	Transport string `json:"transport,omitempty"` // of PathTURN: how this side reaches its server, udp, tcp or tls; none if that is the other side's
	Server    string `json:"server,omitempty"`    // of PathTURN: whose it is, own, remote or both
	NoDirect  Reason `json:"no_direct,omitempty"` // why it is not direct
	NoTURN    Reason `json:"no_turn,omitempty"`   // of PathNodes: why it does not go over TURN either
}

// facts are what the two sides have found for a connection.
type facts struct{ ours, theirs ends }

type ends struct{ direct, turn atomic.Bool }

// learn takes the line of a candidate (RFC 8839, 5.1), and returns how the server
// of a relayed one of ours is reached.
func (f *facts) learn(side *ends, line string) (transport string) {
	fields := strings.Fields(line)
	if len(fields) < 8 {
		return ""
	}
	if fields[7] != "relay" {
		side.direct.Store(true)
		return ""
	}
	side.turn.Store(true)
	priority, _ := strconv.ParseUint(fields[3], 10, 32)
	return transportOf(uint32(priority))
}

// transportOf reads how a TURN server is reached from the priority that pion gives
// to a candidate of this side: TLS, TCP, DTLS and UDP, the best last, in what RFC
// 8445, 5.1.2.1 has for local preference.
func transportOf(priority uint32) string {
	switch priority >> 8 & 0xffff {
	case 0:
		return "tls"
	case 1:
		return "tcp"
	}
	return "udp"
}

// tries says what is tried to reach the peer: the first time, or when it carries
// it, instead of what was tried before.
func (p *Peer) tries(f *facts) { p.facts.CompareAndSwap(nil, f) }

// noDirect is why there is no direct way.
func (f *facts) noDirect() Reason {
	if f != nil && f.ours.direct.Load() && f.theirs.direct.Load() {
		return ReasonNoReply
	}
	return ReasonNoCandidates
}

// noTURN is why there is no way over TURN.
func (f *facts) noTURN(s *servers) Reason {
	switch {
	case f != nil && (f.ours.turn.Load() || f.theirs.turn.Load()):
		return ReasonNoReply
	case s.hasTURN():
		return ReasonTURNFailed
	case s.fixed && len(s.given) == 0:
		return ReasonForbidden
	}
	return ReasonNoTURN
}

// path is how the selected pair of candidates goes.
func (a *attempt) path() Path {
	a.p.facts.Store(a.facts)
	return wayOf(a.pc).Path
}

// wayOf is how the selected pair of candidates of a connection goes.
func wayOf(pc *webrtc.PeerConnection) Way {
	pair, err := pc.SCTP().Transport().ICETransport().GetSelectedCandidatePair()
	if err != nil || pair == nil {
		return Way{Path: PathDirect}
	}
	own, remote := pair.Local.Typ == webrtc.ICECandidateTypeRelay, pair.Remote.Typ == webrtc.ICECandidateTypeRelay
	w := Way{Path: PathTURN}
	switch {
	case own && remote:
		w.Server = ServerBoth
	case own:
		w.Server = ServerOwn
	case remote:
		w.Server = ServerRemote
	default:
		w.Path = PathDirect
	}
	if own {
		w.Transport = transportOf(pair.Local.Priority)
	}
	return w
}

// Path is how the peer is reached now.
func (p *Peer) Path() Path { return Path(p.way.Load()) }

// Way is how the peer is reached now, with how and why.
func (p *Peer) Way() Way {
	f, pc := p.facts.Load(), p.Connection()
	if p.Path() == PathNodes || pc == nil {
		return Way{Path: PathNodes, NoDirect: f.noDirect(), NoTURN: f.noTURN(p.r.servers)}
	}
	w := wayOf(pc)
	if w.Path == PathTURN {
		w.NoDirect = f.noDirect()
	}
	return w
}
