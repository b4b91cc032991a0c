package doctor

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/gorilla/websocket"
	"google.golang.org/protobuf/proto"

	"github.com/peerservers/peerserver/protocol"
)

// membership is what a peer is told.
type membership struct {
	ice    *protocol.IceServers
	others []string // base URLs of other nodes, as the node says
}

var errNoDoor = errors.New("the node has no door for peers")

// logIn logs in as a peer that nobody knows, and asks for what a join tells too. It
// joins nothing: that would announce an app to the world.
func (s *subject) logIn(ctx context.Context) (*membership, error) {
	ctx, cancel := context.WithTimeout(ctx, stepWithin)
	defer cancel()
	ws, answer, err := s.dial(ctx, "/v1")
	if err != nil {
		if answer.status == http.StatusNotFound && s.stats != nil && s.stats.Doors["peer"] == nil {
			return nil, errNoDoor
		}
		return nil, err
	}
	defer ws.Close()
	end := context.AfterFunc(ctx, func() { ws.Close() })
	defer end()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, err
	}
	v := &visit{ws: ws, key: key, url: s.ws(), node: s.about.Node}
	return v.logIn()
}

// visit is one login.
type visit struct {
	ws    *websocket.Conn
	key   ed25519.PrivateKey
	url   string
	node  protocol.NodeID
	login *protocol.Login
	asked *protocol.Challenge
}

func (v *visit) logIn() (*membership, error) {
	m, err := v.read()
	if err != nil {
		return nil, err
	}
	if r := m.GetRefused(); r != nil {
		return nil, &protocol.Error{Code: protocol.Code(r.GetCode()), Text: r.GetText()}
	}
	v.asked = m.GetChallenge()
	if v.asked == nil || v.asked.Version != protocol.Version || len(v.asked.Nonce) != protocol.ChallengeNonce {
		return nil, errors.New("it does not speak this version of the protocol")
	}
	nonce := make([]byte, protocol.LoginNonce)
	rand.Read(nonce)
	v.login = protocol.SignLogin(v.key, v.asked, nonce, v.url)
	for _, m := range []*protocol.ToNode{
		{Ref: 1, Body: &protocol.ToNode_Login{Login: v.login}},
		{Ref: 2, Body: &protocol.ToNode_AskIce{AskIce: new(protocol.AskIce)}},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			return nil, err
		}
		if err := v.ws.WriteMessage(websocket.BinaryMessage, b); err != nil {
			return nil, err
		}
	}
	return v.told()
}

// told waits for the answers to both requests.
func (v *visit) told() (*membership, error) {
	var all membership
	for {
		m, err := v.read()
		if err != nil {
			return nil, err
		}
		switch b := m.Body.(type) {
		case *protocol.ToPeer_Refused:
			return nil, &protocol.Error{Code: protocol.Code(b.Refused.GetCode()), Text: b.Refused.GetText()}
		case *protocol.ToPeer_Welcome:
			if err := b.Welcome.Verify(v.asked, v.login); err != nil {
				return nil, errors.New("the node does not prove who it is")
			}
			all.others = v.urls(b.Welcome.GetNodes())
		case *protocol.ToPeer_IceServers:
			all.ice = b.IceServers
			return &all, nil
		}
	}
}

// urls are where pages of other nodes are, of records that verify. Those of a
// node whose clock is wrong verify at the time that they name.
func (v *visit) urls(records []*protocol.SignedRecord) (list []string) {
	for _, signed := range records[:min(len(records), protocol.MaxNodesRecords)] {
		r, err := signed.Verify(protocol.NodeID{}, time.UnixMilli(signed.GetSeq()))
		if err != nil || r.Node == v.node || len(r.URLs) == 0 {
			continue
		}
		if l, err := protocol.ParseLinkURL(r.URLs[0]); err == nil {
			list = append(list, scheme(l.Secure)+"://"+net.JoinHostPort(l.Host, portOf(l)))
		}
	}
	return list
}

func (v *visit) read() (*protocol.ToPeer, error) {
	_, b, err := v.ws.ReadMessage()
	if err != nil {
		return nil, err
	}
	m := new(protocol.ToPeer)
	return m, proto.Unmarshal(b, m)
}

// isDenied says whether a private node refuses who has no token. One that shows
// its totals is not private, and has another reason.
func (s *subject) isDenied(err error) bool {
	refused, ok := errors.AsType[*protocol.Error](err)
	return ok && refused.Code == protocol.CodeDenied && s.stats == nil
}

// checkLogin says whether peers can log in.
func (s *subject) checkLogin(context.Context) []Finding {
	m, err := s.login()
	switch {
	case s.isDenied(err):
		return one(bad(NodeDenied, "A peer without a token cannot log in."))
	case errors.Is(err, errNoDoor):
		return one(bad(LoginOff, "The node has no door for peers of its own SDK."))
	case err != nil:
		return one(bad(LoginFailed, "A peer cannot log in at %s: %s.", s.ws(), why(err)))
	}
	return one(ok("A peer can log in, and is told of %d servers of STUN and TURN.", len(m.ice.GetServers())))
}

func portOf(l protocol.LinkURL) string { return strconv.Itoa(int(l.Port)) }

func addrPort(s string) (netip.AddrPort, error) { return netip.ParseAddrPort(s) }
