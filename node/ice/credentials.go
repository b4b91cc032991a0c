package ice

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// Key is what another node issues credentials with, for this node's TURN, that
// expire on a day.
type Key struct {
	Day uint32 // since 1 January 1970, UTC
	Key []byte // HMAC-SHA-256(secret, "peerserver/1/turn" || NodeID of the issuer || Day in 4 bytes, big endian)
}

// Credentials are for a peer of this node, and good for an hour.
func (s *Server) Credentials(peer []byte) (user, password string) {
	user, expiry := userOf(s.cfg.Node, peer, time.Now())
	return user, passwordOf(turnKey(s.cfg.Secret, s.cfg.Node, dayOf(expiry)), user)
}

// Keys are today's and tomorrow's for another node.
func (s *Server) Keys(node protocol.NodeID) []Key {
	today := dayOf(time.Now())
	return []Key{
		{today, turnKey(s.cfg.Secret, node, today)},
		{today + 1, turnKey(s.cfg.Secret, node, today+1)},
	}
}

// Issue makes credentials for a peer of the issuer, which has the keys of the
// node whose TURN they are for. It reports false when none of the keys is of the
// day in which they would expire.
func Issue(keys []Key, issuer protocol.NodeID, peer []byte, now time.Time) (user, password string, ok bool) {
	user, expiry := userOf(issuer, peer, now)
	for _, k := range keys {
		if k.Day == dayOf(expiry) {
			return user, passwordOf(k.Key, user), true
		}
	}
	return "", "", false
}

func userOf(issuer protocol.NodeID, peer []byte, now time.Time) (user string, expiry time.Time) {
	expiry = now.Add(protocol.ICETTL)
	h := sha256.Sum256(append([]byte("peerserver/1/turn-peer"), peer...))
	return strconv.FormatInt(expiry.Unix(), 10) + ":" + issuer.String() + ":" + hex.EncodeToString(h[:16]), expiry
}

func turnKey(secret []byte, issuer protocol.NodeID, day uint32) []byte {
	m := hmac.New(sha256.New, secret)
	m.Write([]byte("peerserver/1/turn"))
	m.Write(issuer[:])
	m.Write(binary.BigEndian.AppendUint32(nil, day))
	return m.Sum(nil)
}

func passwordOf(key []byte, user string) string {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(user))
	return base64.StdEncoding.EncodeToString(m.Sum(nil))
}

func dayOf(t time.Time) uint32 { return uint32(t.Unix() / (24 * 60 * 60)) }

// user is a user name that has been parsed.
type user struct {
	expiry int64 // unix s
	peer   client
}

// client is a peer of an issuer, as its user names say it.
type client struct {
	issuer protocol.NodeID
	hash   [16]byte
}

// parseUser reads a user name, of which there is one spelling.
func parseUser(name string) (u user, ok bool) {
	part := strings.Split(name, ":")
	if len(part) != 3 || len(part[2]) != 2*len(u.peer.hash) {
		return u, false
	}
	var err error
	if u.expiry, err = strconv.ParseInt(part[0], 10, 64); err != nil || strconv.FormatInt(u.expiry, 10) != part[0] {
		return u, false
	}
	if u.peer.issuer, err = protocol.ParseNodeID(part[1]); err != nil {
		return u, false
	}
	if _, err = hex.Decode(u.peer.hash[:], []byte(part[2])); err != nil || strings.ToLower(part[2]) != part[2] {
		return u, false
	}
	return u, true
}
