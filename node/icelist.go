package node

import (
	"cmp"
	"encoding/json"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/node/ice"
	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/relay"
)

// loadCost is how much delay a class of load is worth when a node's servers are
// chosen: one that is half full stands back behind one that is farther away.
const loadCost = 50 * time.Millisecond

// mostTokens is how many tokens of a request are looked at: that of the session, and
// on a private node the node's.
const mostTokens = 4

// iceServers are the STUN and TURN servers for a peer: this node's first, at the
// host that the peer has dialled, then those of two linked nodes. Credentials are
// for peer, which is nil for who has no session: then there is STUN alone.
func (n *Node) iceServers(peer []byte, host string) *protocol.IceServers {
	list := &protocol.IceServers{Ttl: uint32(protocol.ICETTL / time.Second)}
	if n.ice != nil {
		stun, turn, tls := n.portsAt(host)
		s := servers{host: n.cfg.ICEHost, stun: stun, turn: turn, tls: tls}
		if s.host == "" {
			s.host = host
		}
		if !n.certs.isFor(s.host) { // nobody would believe it
			s.tls = nil
		}
		if n.cfg.TURN && peer != nil {
			s.user, s.password = n.ice.Credentials(peer)
		}
		list.Servers = s.appendTo(list.Servers)
	}
	for _, o := range nearest(n.relay.Neighbours()) {
		s := servers{host: o.host, stun: o.Record.STUNPort, turn: o.Record.TURNPort, tls: o.tls}
		if peer != nil {
			s.user, s.password, _ = ice.Issue(iceKeys(o.Keys), n.ID(), peer, time.Now())
		}
		list.Servers = s.appendTo(list.Servers)
	}
	return list
}

// otherServer is a linked node whose servers this one's peers may use.
type otherServer struct {
	relay.Neighbour
	host string
	tls  []uint16
}

// nearest are the two nearest and idlest nodes that have STUN.
func nearest(linked []relay.Neighbour) []otherServer {
	var all []otherServer
	for _, o := range linked {
		if o.Record == nil || o.Record.STUNPort == 0 || len(o.Record.URLs) == 0 {
			continue
		}
		u, err := protocol.ParseLinkURL(o.Record.URLs[0])
		if err != nil {
			continue
		}
		s := otherServer{Neighbour: o, host: u.Host}
		if u.Secure { // elsewhere no certificate is known to fit the host
			s.tls = o.Record.TURNTLS
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b otherServer) int { return cmp.Compare(a.cost(), b.cost()) })
	return all[:min(len(all), protocol.ICENodes-1)]
}

// cost is what a node's servers are chosen by. One whose delay is not known yet
// comes after those whose is.
func (s *otherServer) cost() time.Duration {
	rtt := s.RTT
	if rtt == 0 {
		rtt = time.Second
	}
	if s.Record.TURNPort == 0 {
		rtt += time.Minute // of two, the one that can do more
	}
	return rtt + time.Duration(s.Record.Load)*loadCost
}

func iceKeys(keys []*protocol.TurnKeys_Key) []ice.Key {
	var list []ice.Key
	for _, k := range keys {
		list = append(list, ice.Key{Day: k.Day, Key: k.Key})
	}
	return list
}

// servers are those of one node.
type servers struct {
	host           string
	stun, turn     uint16
	tls            []uint16
	user, password string // "": STUN alone
}

// appendTo adds the node's servers to a list. Those of TURN are in the order in
// which they are good: over UDP, over TCP, and over TLS, which passes what lets
// nothing else through.
func (s *servers) appendTo(list []*protocol.IceServers_Server) []*protocol.IceServers_Server {
	if s.stun != 0 {
		list = append(list, &protocol.IceServers_Server{Urls: []string{"stun:" + s.at(s.stun)}})
	}
	if s.user == "" || (s.turn == 0 && len(s.tls) == 0) {
		return list
	}
	turn := &protocol.IceServers_Server{Username: s.user, Credential: s.password}
	if s.turn != 0 {
		turn.Urls = append(turn.Urls, "turn:"+s.at(s.turn)+"?transport=udp", "turn:"+s.at(s.turn)+"?transport=tcp")
	}
	for _, port := range s.tls {
		turn.Urls = append(turn.Urls, "turns:"+s.at(port)+"?transport=tcp")
	}
	return append(list, turn)
}

func (s *servers) at(port uint16) string { return net.JoinHostPort(s.host, strconv.Itoa(int(port))) }

// rtcServer is an entry of RTCConfiguration.iceServers.
type rtcServer struct {
	URLs       []string `json:"urls"`
	Username   string   `json:"username,omitempty"`
	Credential string   `json:"credential,omitempty"`
}

// iceList answers GET /v1/ice, in the shape of RTCConfiguration.iceServers. Who
// names an open session of a door, by door, id and token, is given credentials
// for TURN.
func (n *Node) iceList(w http.ResponseWriter, q *http.Request) {
	peer, err := n.vouched(q)
	if err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	list := n.iceServers(peer, hostOf(q.Host))
	answer := make([]rtcServer, 0, len(list.Servers))
	for _, s := range list.Servers {
		answer = append(answer, rtcServer{s.Urls, s.Username, s.Credential})
	}
	b, err := json.Marshal(answer)
	if err != nil {
		http.Error(w, "internal", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(append(b, '\n'))
}

// vouched is the peer that a request names, nil if it names none. What is not
// the id and token of an open session is an error: a page that asks for TURN
// should not have to find out by itself that it got none.
func (n *Node) vouched(q *http.Request) ([]byte, error) {
	v := q.URL.Query()
	name := v.Get("door")
	if name == "" {
		return nil, nil
	}
	v["token"] = v["token"][:min(len(v["token"]), mostTokens)]
	for _, d := range n.doors {
		vouch, ok := d.(door.Voucher)
		if !ok || d.Name() != name {
			continue
		}
		if peer := vouch.Vouch(v); peer != "" {
			return []byte(name + "\x00" + peer), nil
		}
		return nil, protocol.Errorf(protocol.CodeDenied, "the door %s has no open session of that id and token; ask while the client is connected to this node", name)
	}
	return nil, protocol.Errorf(protocol.CodeDenied, "there is no door %q here that vouches for its clients; without ?door= the list is of STUN servers", name)
}

// hostOf is a Host header without its port.
func hostOf(s string) string {
	if host, _, err := net.SplitHostPort(s); err == nil {
		return host
	}
	if len(s) > 2 && s[0] == '[' && s[len(s)-1] == ']' {
		return s[1 : len(s)-1]
	}
	return s
}
