package protocol

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
)

// beaconMagic begins each datagram.
const beaconMagic = "psb1"

// Announcement is what a beacon says: of a node when it has a record, else of
// a peer.
type Announcement struct {
	Key    [32]byte // NodeID or PeerID
	Nonce  [BeaconNonce]byte
	Tags   [][]byte // of a peer's apps
	Port   uint16   // of a peer: TCP
	Record *Record  // of a node
}

// SignBeacon makes the datagram that announces a peer with its apps and port,
// or a node with its record. The nonce is random and of this one only.
func SignBeacon(key ed25519.PrivateKey, nonce [BeaconNonce]byte, apps []AppID, port uint16, record *SignedRecord) ([]byte, error) {
	public := key.Public().(ed25519.PublicKey)
	body := &BeaconBody{Nonce: nonce[:], Port: uint32(port), Record: record}
	for _, app := range apps[:min(len(apps), MaxBeaconTags)] {
		body.Tags = append(body.Tags, app.lanTag("peerserver/1/beacon", public, nonce[:]))
	}
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(body)
	if err != nil {
		return nil, Errorf(CodeInternal, "beacon: %v", err)
	}
	b, err := proto.MarshalOptions{Deterministic: true}.MarshalAppend([]byte(beaconMagic), &Beacon{
		Key: public, Body: raw, Signature: ed25519.Sign(key, beaconBytes(raw)),
	})
	if err != nil {
		return nil, Errorf(CodeInternal, "beacon: %v", err)
	}
	if len(b) > MaxBeacon {
		return nil, Errorf(CodeTooLarge, "beacon of %d bytes is over %d", len(b), MaxBeacon)
	}
	return b, nil
}

func beaconBytes(body []byte) []byte { return append([]byte("peerserver/1/beacon"), body...) }

// ReadBeacon checks a datagram: size, form, signature, and then the record. A
// beacon that was recorded may be sent again by anybody, also from elsewhere:
// it says where somebody may be, and what is there has to prove who it is.
func ReadBeacon(datagram []byte, now time.Time) (*Announcement, error) {
	rest, ok := bytes.CutPrefix(datagram, []byte(beaconMagic))
	if !ok || len(datagram) > MaxBeacon {
		return nil, Errorf(CodeMalformed, "beacon: it does not begin with %q, or is over %d bytes", beaconMagic, MaxBeacon)
	}
	var s Beacon
	var b BeaconBody
	if proto.Unmarshal(rest, &s) != nil || len(s.Key) != ed25519.PublicKeySize || proto.Unmarshal(s.Body, &b) != nil {
		return nil, Errorf(CodeMalformed, "beacon: it does not parse")
	}
	wrong := func(tag []byte) bool { return len(tag) != TagSize }
	if len(b.Nonce) != BeaconNonce || len(b.Tags) > MaxBeaconTags || slices.ContainsFunc(b.Tags, wrong) || b.Port > 65535 {
		return nil, Errorf(CodeMalformed, "beacon: the fields are not of their size")
	}
	if b.Record == nil && b.Port == 0 {
		return nil, Errorf(CodeMalformed, "beacon: it is of no node and has no port")
	}
	if !ed25519.Verify(s.Key, beaconBytes(s.Body), s.Signature) {
		return nil, Errorf(CodeSignature, "beacon: the signature does not verify")
	}
	a := &Announcement{Key: [32]byte(s.Key), Nonce: [BeaconNonce]byte(b.Nonce), Tags: b.Tags, Port: uint16(b.Port)}
	if b.Record == nil {
		return a, nil
	}
	var err error
	a.Record, err = b.Record.Verify(NodeID(s.Key), now)
	if err != nil {
		return nil, err
	}
	return a, nil
}

// Serves says whether a peer's beacon is of a member of the app.
func (a *Announcement) Serves(app AppID) bool {
	want := app.lanTag("peerserver/1/beacon", a.Key[:], a.Nonce[:])
	return slices.ContainsFunc(a.Tags, func(tag []byte) bool { return hmac.Equal(tag, want) })
}

// lanTag shows the app to those who know it.
func (a AppID) lanTag(context string, key, nonce []byte) []byte {
	m := hmac.New(sha256.New, a[:])
	m.Write([]byte(context))
	m.Write(key)
	m.Write(nonce)
	return m.Sum(nil)[:TagSize]
}

// NewLANHello greets another peer of the app.
func NewLANHello(app AppID, self PeerID, nonce [LANNonce]byte) *LANHello {
	return &LANHello{Key: self[:], Nonce: nonce[:], Tag: app.lanTag("peerserver/1/lan", self[:], nonce[:])}
}

// Verify says who greets. That it holds the key is not proved: what it has
// signed is.
func (h *LANHello) Verify(app AppID) (PeerID, error) {
	if len(h.Key) != len(PeerID{}) || len(h.Nonce) != LANNonce {
		return PeerID{}, Errorf(CodeMalformed, "hello: a key of 32 bytes and a nonce of %d are needed", LANNonce)
	}
	if !hmac.Equal(h.Tag, app.lanTag("peerserver/1/lan", h.Key, h.Nonce)) {
		return PeerID{}, Errorf(CodeDenied, "hello: it is of another app")
	}
	return PeerID(h.Key), nil
}

// LANKey seals what from sends to to. Both have been verified for the app.
func LANKey(app AppID, from, to *LANHello) ([]byte, error) {
	info := slices.Concat([]byte("peerserver/1/lan"), from.Key, from.Nonce, to.Key, to.Nonce)
	return hkdf.Key(sha256.New, app[:], nil, string(info), 16)
}
