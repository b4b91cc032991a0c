package ice

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/peerservers/peerserver/protocol"
	"github.com/pion/stun/v4"
	"github.com/pion/turn/v5"
)

const (
	// expiryMargin is how long before its end an allocation gets no more
	// permissions. One that is not refreshed until then is given up.
	expiryMargin = 2 * time.Second

	// maxAge is how old an allocation may become. It lives on when the
	// credentials that it was made with have expired, as on other servers: a
	// connection that lasts hours must not break for that.
	maxAge = 24 * time.Hour
)

var errRefused = errors.New("refused")

// refuse counts a refusal, and keeps what the answer will say.
func (f *front) refuse(why reason, code stun.ErrorCode) {
	f.s.count.refuse(why)
	f.request.code = code
}

// auth finds the key that a request has to be signed with.
func (f *front) auth(a *turn.RequestAttributes) (userID string, key []byte, ok bool) {
	u, ok := parseUser(a.Username)
	if !ok || a.Realm != Realm {
		f.refuse(badCredentials, stun.CodeUnauthorized)
		return "", nil, false
	}
	left := time.Unix(u.expiry, 0).Sub(f.request.at)
	switch {
	case left > protocol.ICETTL+protocol.ICEAhead:
		f.refuse(ahead, stun.CodeUnauthorized)
		return "", nil, false
	case left < 0 && !f.continues(u):
		f.refuse(expired, stun.CodeUnauthorized)
		return "", nil, false
	}
	password := passwordOf(turnKey(f.s.cfg.Secret, u.peer.issuer, dayOf(time.Unix(u.expiry, 0))), a.Username)
	f.request.user, f.request.key = u, turn.GenerateAuthKey(a.Username, a.Realm, password)
	return string(append(u.peer.issuer[:], u.peer.hash[:]...)), f.request.key, true
}

// continues says whether a user goes on with an allocation of its own.
func (f *front) continues(u user) bool {
	r := f.request.relay
	return r != nil && r.peer == u.peer && f.request.at.Sub(r.made) < maxAge
}

// quota says whether a user may have one more allocation.
func (f *front) quota(_, _ string, _ net.Addr) bool {
	address := network(f.request.from.Addr())
	if f.s.cfg.AllowPrivate && address.IsLoopback() {
		address = netip.Addr{} // all peers of a testnet have it
	}
	l, why := f.s.accounts.acquire(f.request.user.peer, address, f.request.at)
	if why != fine {
		f.refuse(why, stun.CodeAllocQuotaReached)
		return false
	}
	f.request.lease = l
	return true
}

// permit says whether a permission may be made, which a channel needs too.
func (f *front) permit(_ net.Addr, peer net.IP) bool {
	ip, _ := netip.AddrFromSlice(peer)
	ip = ip.Unmap()
	r, msg := f.request.relay, f.request.msg
	if r == nil || msg == nil {
		return false
	}
	why, room := fine, r.room(ip)
	if msg.Type.Method == stun.MethodChannelBind {
		var to stun.XORMappedAddress
		if to.GetFromAs(msg, stun.AttrXORPeerAddress) != nil {
			return false
		}
		at := netip.AddrPortFrom(ip, uint16(to.Port))
		_, why = f.s.addresses.route(at)
		room = room && r.roomFor(at)
	} else if !f.s.addresses.permit(ip) {
		why = badAddress
	}
	switch {
	case why != fine:
		f.refuse(why, stun.CodeForbidden)
	case !room:
		f.refuse(overRemotes, stun.CodeInsufficientCapacity)
	default:
		return true
	}
	return false
}

// generator makes the relayed addresses of a front.
type generator struct{ f *front }

func (g generator) Validate() error { return nil }

// AllocatePacketConn makes the relay of an allocation. pion/turn asks for one
// without a user only to learn an even port, which it closes and then wants: no
// socket is opened for that.
func (g generator) AllocatePacketConn(c turn.AllocateListenerConfig) (net.PacketConn, net.Addr, error) {
	f := g.f
	if c.UserID == "" {
		return evenPort{}, &net.UDPAddr{Port: f.s.anyPort() &^ 1}, nil
	}
	if f.request.lease == nil {
		return nil, nil, errRefused
	}
	f.s.running.Add(1) // until the relay's ReadFrom says that it is closed
	r, err := f.listen(c.Network, c.RequestedPort)
	switch {
	case errors.Is(err, errNoFamily):
		f.refuse(noFamily, stun.CodeAddrFamilyNotSupported)
	case err != nil:
		f.refuse(noPort, stun.CodeInsufficientCapacity)
	}
	if err != nil {
		f.s.running.Done()
		return nil, nil, err
	}
	f.request.lease = nil
	f.remember(r)
	return r, r.LocalAddr(), nil
}

// evenPort is nothing that could be read.
type evenPort struct{ net.PacketConn }

func (evenPort) Close() error { return nil }

// AllocateListener would be for allocations of TCP (RFC 6062).
func (g generator) AllocateListener(turn.AllocateListenerConfig) (net.Listener, net.Addr, error) {
	g.f.refuse(noTransport, stun.CodeUnsupportedTransProto)
	return nil, nil, errRefused
}

// AllocateConn is for them too.
func (g generator) AllocateConn(turn.AllocateConnConfig) (net.Conn, error) { return nil, errRefused }

// events keeps a relay's permissions and channels as pion/turn has them.
func (f *front) events() turn.EventHandler {
	permission := func(told net.Addr, ip net.IP, n int) {
		if r := f.s.addresses.relayOf(addrPort(told)); r != nil {
			a, _ := netip.AddrFromSlice(ip)
			r.hold(a.Unmap(), n)
		}
	}
	channel := func(told, peer net.Addr, n int) {
		if r := f.s.addresses.relayOf(addrPort(told)); r != nil {
			r.channel(addrPort(peer), n)
		}
	}
	return turn.EventHandler{
		OnAuth: func(_, _ net.Addr, _, _, _, _ string, ok bool) {
			if f.request.proven = ok; !ok {
				f.refuse(badCredentials, stun.CodeUnauthorized)
			}
		},
		OnPermissionCreated: func(_, _ net.Addr, _, _, _ string, told net.Addr, ip net.IP) { permission(told, ip, 1) },
		OnPermissionDeleted: func(_, _ net.Addr, _, _, _ string, told net.Addr, ip net.IP) { permission(told, ip, -1) },
		OnChannelCreated:    func(_, _ net.Addr, _, _, _ string, told, peer net.Addr, _ uint16) { channel(told, peer, 1) },
		OnChannelDeleted:    func(_, _ net.Addr, _, _, _ string, told, peer net.Addr, _ uint16) { channel(told, peer, -1) },
	}
}

// settle looks at the answer of pion/turn to the request. An error is said as RFC
// 8656 wants it: with the code that the refusal has, and, to a request that
// proved its credentials, with integrity, without which clients ignore it.
// pion/turn 5.1.1 does neither.
func (f *front) settle(p []byte) []byte {
	req := &f.request
	answer := &stun.Message{Raw: append([]byte(nil), p...)}
	if req.msg == nil || answer.Decode() != nil || answer.TransactionID != req.msg.TransactionID {
		return p
	}
	if answer.Type.Class == stun.ClassSuccessResponse {
		f.extend(answer)
		return p
	}
	var got stun.ErrorCodeAttribute
	if got.GetFrom(answer) != nil {
		return p
	}
	if req.code == 0 {
		req.code = got.Code
	}
	if req.code == got.Code && (!req.proven || answer.Contains(stun.AttrMessageIntegrity)) {
		return p
	}
	parts := []stun.Setter{stun.NewTransactionIDSetter(answer.TransactionID), answer.Type, req.code}
	var unknown stun.UnknownAttributes
	if unknown.GetFrom(answer) == nil {
		parts = append(parts, unknown)
	}
	if req.proven {
		parts = append(parts, stun.MessageIntegrity(req.key))
	} else if req.code == stun.CodeUnauthorized {
		var nonce stun.Nonce // the request's, which was good
		if nonce.GetFrom(req.msg) != nil {
			return p
		}
		parts = append(parts, nonce, stun.NewRealm(Realm))
	}
	said, err := stun.Build(parts...)
	if err != nil {
		return p
	}
	return said.Raw
}

// extend notes until when an allocation lasts that was made or refreshed.
func (f *front) extend(answer *stun.Message) {
	life, err := answer.Get(stun.AttrLifetime)
	if r := f.relayOf(f.request.from); r != nil && err == nil && len(life) == 4 {
		r.expiry = f.request.at.Add(time.Duration(binary.BigEndian.Uint32(life)) * time.Second)
	}
}
