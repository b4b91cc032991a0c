package protocol

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
)

// NodeID is a node's ed25519 public key.
type NodeID [32]byte

// zBase32 is the alphabet that human-facing keys are printed in, as in pkarr.
var zBase32 = base32.NewEncoding("ybndrfg8ejkmcpqxot1uwisza345h769").WithPadding(base32.NoPadding)

// String is z-base-32, 52 characters.
func (n NodeID) String() string { return zBase32.EncodeToString(n[:]) }

// Short is the start of String, enough to tell nodes apart in a log.
func (n NodeID) Short() string { return n.String()[:8] }

// Less orders nodes by their bytes.
func (n NodeID) Less(m NodeID) bool { return string(n[:]) < string(m[:]) }

// MarshalText prints as String does.
func (n NodeID) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// UnmarshalText reads what String prints.
func (n *NodeID) UnmarshalText(text []byte) error {
	id, err := ParseNodeID(string(text))
	*n = id
	return err
}

// ParseNodeID reads what NodeID.String prints.
func ParseNodeID(s string) (NodeID, error) {
	b, err := zBase32.DecodeString(s)
	if err != nil || len(b) != len(NodeID{}) || zBase32.EncodeToString(b) != s {
		return NodeID{}, Errorf(CodeMalformed, "node id %q is not 52 characters of z-base-32", s)
	}
	return NodeID(b), nil
}

// NodeTag is the start of a NodeID, for ids of peers that say on which node
// they are. The zero NodeTag says nothing.
type NodeTag [10]byte

// Tag is the node's, to be put into ids that the node issues.
func (n NodeID) Tag() NodeTag { return NodeTag(n[:len(NodeTag{})]) }

// String is z-base-32, 16 characters.
func (t NodeTag) String() string { return zBase32.EncodeToString(t[:]) }

// ParseNodeTag reads what NodeTag.String prints.
func ParseNodeTag(s string) (NodeTag, bool) {
	b, err := zBase32.DecodeString(s)
	if err != nil || len(b) != len(NodeTag{}) {
		return NodeTag{}, false
	}
	return NodeTag(b), true
}

// AppID names an app: what peers have in common. It is a hash, so a node that
// sees one learns nothing else.
type AppID [20]byte

// String is hex.
func (a AppID) String() string { return hex.EncodeToString(a[:]) }

// App is the AppID of a name on a door, such as an infohash on "tracker". With
// a secret the id is keyed by it, and only those who know it can find the app.
func App(door string, name, secret []byte) AppID {
	h := sha256.New()
	if len(secret) > 0 {
		h = hmac.New(sha256.New, secret)
	}
	h.Write([]byte("peerserver/1/app"))
	h.Write([]byte(door))
	h.Write([]byte{0})
	h.Write(name)
	return AppID(h.Sum(nil)[:20])
}

// MeshApp is the mesh-wide name under which nodes without a common app meet.
var MeshApp = App("mesh", nil, nil)

// Rendezvous is the DHT key under which nodes announce that they serve the app
// on a day, counted from 1 January 1970 in UTC. It changes daily, so that
// nobody can sit on it: SHA-256("peerserver/1/rv" || AppID || day as 4 bytes,
// big endian)[:20].
func (a AppID) Rendezvous(day uint32) [20]byte {
	b := append([]byte("peerserver/1/rv"), a[:]...)
	h := sha256.Sum256(binary.BigEndian.AppendUint32(b, day))
	return [20]byte(h[:20])
}

// Tag proves on one link, in one direction, that its sender knows the app.
func (a AppID) Tag(handshake []byte, role Role) [TagSize]byte {
	m := hmac.New(sha256.New, a[:])
	m.Write(handshake)
	m.Write([]byte{byte(role)})
	return [TagSize]byte(m.Sum(nil)[:TagSize])
}

// Role is the side of a handshake.
type Role byte

// Roles.
const (
	Dialler   Role = 0
	Responder Role = 1
)

// MemberHash names a member towards nodes that may not know it.
type MemberHash uint64

// MemberHash is HMAC-SHA-256(AppID, id)[:8], big endian.
func (a AppID) MemberHash(id string) MemberHash {
	m := hmac.New(sha256.New, a[:])
	m.Write([]byte(id))
	return MemberHash(binary.BigEndian.Uint64(m.Sum(nil)))
}

// Bytes is the hash as it travels.
func (h MemberHash) Bytes() []byte { return binary.BigEndian.AppendUint64(nil, uint64(h)) }

// ParseMemberHash reads Bytes.
func ParseMemberHash(b []byte) (MemberHash, bool) {
	if len(b) != MemberHashSize {
		return 0, false
	}
	return MemberHash(binary.BigEndian.Uint64(b)), true
}
