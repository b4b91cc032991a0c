package protocol

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
)

// PeerID is a peer's ed25519 public key.
type PeerID [32]byte

// String is z-base-32, 52 characters.
func (p PeerID) String() string { return zBase32.EncodeToString(p[:]) }

// Short is the start of String, enough to tell peers apart on a screen.
func (p PeerID) Short() string { return p.String()[:8] }

// MarshalText prints as String does.
func (p PeerID) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads what String prints.
func (p *PeerID) UnmarshalText(text []byte) error {
	id, err := ParsePeerID(string(text))
	*p = id
	return err
}

// ParsePeerID reads what PeerID.String prints.
func ParsePeerID(s string) (PeerID, error) {
	b, err := zBase32.DecodeString(s)
	if err != nil || len(b) != len(PeerID{}) || zBase32.EncodeToString(b) != s {
		return PeerID{}, Errorf(CodeMalformed, "peer id %q is not 52 characters of z-base-32", s)
	}
	return PeerID(b), nil
}

// Session tells apart the joins of one peer: two tabs, two devices, or the
// same app left and joined again.
type Session [8]byte

// Member is one session of a peer.
type Member struct {
	Peer    PeerID
	Session Session
}

// Bytes are the peer's id and the session, 40 bytes: the member id of the
// native door.
func (m Member) Bytes() []byte { return append(m.Peer[:], m.Session[:]...) }

// ParseMember reads Bytes.
func ParseMember(b []byte) (Member, error) {
	if len(b) != len(PeerID{})+len(Session{}) {
		return Member{}, Errorf(CodeMalformed, "member of %d bytes is not of 40", len(b))
	}
	return Member{PeerID(b), Session(b[len(PeerID{}):])}, nil
}

// SignLogin signs a Login for the node of a Challenge.
func SignLogin(key ed25519.PrivateKey, c *Challenge, nonce []byte, url string) *Login {
	l := &Login{Key: key.Public().(ed25519.PublicKey), Url: url, Nonce: nonce}
	l.Signature = ed25519.Sign(key, l.signed(c))
	return l
}

func (l *Login) signed(c *Challenge) []byte {
	b := append([]byte("peerserver/1/login"), c.Nonce...)
	b = append(append(b, c.Node...), l.Nonce...)
	return append(b, l.Url...)
}

// Verify says who logs in, where a Challenge was sent. Whether the URL is one
// of the node's is for the caller to see.
func (l *Login) Verify(c *Challenge) (PeerID, error) {
	if len(l.Key) != ed25519.PublicKeySize || len(l.Nonce) != LoginNonce || len(l.Url) > MaxURL {
		return PeerID{}, Errorf(CodeMalformed, "login: a key of 32 bytes, a nonce of %d and a URL of at most %d are needed", LoginNonce, MaxURL)
	}
	if !ed25519.Verify(l.Key, l.signed(c), l.Signature) {
		return PeerID{}, Errorf(CodeSignature, "login: the signature does not verify for this node and connection")
	}
	return PeerID(l.Key), nil
}

// SignWelcome is the signature of the Welcome to a Login that was verified.
func SignWelcome(key ed25519.PrivateKey, c *Challenge, l *Login) []byte {
	return ed25519.Sign(key, welcomeBytes(c, l))
}

func welcomeBytes(c *Challenge, l *Login) []byte {
	return append(append(append([]byte("peerserver/1/welcome"), c.Nonce...), l.Key...), l.Nonce...)
}

// Verify checks that the node is the one that its Challenge named, for the
// client that sent the Login.
func (w *Welcome) Verify(c *Challenge, l *Login) error {
	if len(c.Node) != ed25519.PublicKeySize || len(c.Nonce) != ChallengeNonce {
		return Errorf(CodeMalformed, "welcome: the challenge has no node of 32 bytes and no nonce of %d", ChallengeNonce)
	}
	if !ed25519.Verify(c.Node, welcomeBytes(c, l), w.GetSignature()) {
		return Errorf(CodeSignature, "welcome: the node is not the one that it says it is")
	}
	return nil
}

// PeerPresence is a SignedPresence, verified.
type PeerPresence struct {
	Member   Member
	Seal     [32]byte // X25519
	Issued   time.Time
	TTL      time.Duration
	Name     string
	Services []string
	Metadata []byte
	Signed   *SignedPresence
}

// SignPresence makes p.Signed for an app. The fields but Signed and
// Member.Peer are the caller's.
func SignPresence(key ed25519.PrivateKey, app AppID, p *PeerPresence) error {
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(&PresenceBody{
		App: app[:], Session: p.Member.Session[:], Seal: p.Seal[:], Issued: p.Issued.UnixMilli(), Ttl: uint32(p.TTL / time.Second),
		Name: p.Name, Services: p.Services, Metadata: p.Metadata,
	})
	if err != nil {
		return Errorf(CodeInternal, "presence: %v", err)
	}
	s := &SignedPresence{Key: key.Public().(ed25519.PublicKey), Body: body, Signature: ed25519.Sign(key, presenceBytes(body))}
	got, err := s.Verify(app)
	if err != nil {
		return err
	}
	*p = *got
	return nil
}

func presenceBytes(body []byte) []byte { return append([]byte("peerserver/1/presence"), body...) }

// Verify checks a presence for an app. Sizes come first, the signature last.
// Clocks are not looked at: a presence counts for as long as a node shows it,
// and its TTL bounds that at the node.
func (s *SignedPresence) Verify(app AppID) (*PeerPresence, error) {
	if s == nil || len(s.Key) != ed25519.PublicKeySize || len(s.Body)+len(s.Signature)+len(s.Key)+16 > MaxBlob {
		return nil, Errorf(CodeMalformed, "presence: no key of 32 bytes, or over %d bytes", MaxBlob)
	}
	var b PresenceBody
	if proto.Unmarshal(s.Body, &b) != nil || len(b.Session) != len(Session{}) || len(b.Seal) != 32 {
		return nil, Errorf(CodeMalformed, "presence: the body does not parse")
	}
	if string(b.App) != string(app[:]) {
		return nil, Errorf(CodeDenied, "presence: it is for another app")
	}
	if len(b.Name) > MaxPeerName || len(b.Services) > MaxServices || len(b.Metadata) > MaxMetadata {
		return nil, Errorf(CodeTooLarge, "presence: name, services or metadata are over their limits")
	}
	for _, v := range append(b.Services, b.Name) {
		if len(v) > MaxPeerName || !utf8.ValidString(v) {
			return nil, Errorf(CodeTooLarge, "presence: a name of over %d bytes", MaxPeerName)
		}
	}
	ttl := time.Duration(b.Ttl) * time.Second
	if ttl <= 0 || ttl > MaxPresenceTTL || b.Issued <= 0 {
		return nil, Errorf(CodeMalformed, "presence: it has to last up to %v", MaxPresenceTTL)
	}
	if !ed25519.Verify(s.Key, presenceBytes(s.Body), s.Signature) {
		return nil, Errorf(CodeSignature, "presence: the signature does not verify")
	}
	return &PeerPresence{
		Member: Member{PeerID(s.Key), Session(b.Session)}, Seal: [32]byte(b.Seal), Issued: time.UnixMilli(b.Issued), TTL: ttl,
		Name: b.Name, Services: b.Services, Metadata: b.Metadata, Signed: s,
	}, nil
}

// AppSecret is what an app's secret adds to each seal, zeros when it has none.
type AppSecret [32]byte

// SealSecret derives it.
func SealSecret(app AppID, secret []byte) (k AppSecret) {
	if len(secret) == 0 {
		return k
	}
	// It fails only for lengths that are not asked for here.
	b, err := hkdf.Key(sha256.New, secret, nil, "peerserver/1/secret"+string(app[:]), len(k))
	if err == nil {
		copy(k[:], b)
	}
	return k
}

// EnvelopeHeader is what an Envelope says on its outside.
type EnvelopeHeader struct {
	App      AppID
	From, To Member
	Sequence uint64 // from 1, for each pair of members
	Kind     EnvelopeBody_Kind
}

func (h *EnvelopeHeader) info(k AppSecret) []byte {
	b := append([]byte("peerserver/1/seal"), h.App[:]...)
	b = append(append(b, h.From.Bytes()...), h.To.Bytes()...)
	return append(b, k[:]...)
}

func (h *EnvelopeHeader) aad() []byte {
	return append(binary.BigEndian.AppendUint64(nil, h.Sequence), byte(h.Kind))
}

// Seal makes an Envelope that only the holder of the seal key to can open.
func (h *EnvelopeHeader) Seal(key ed25519.PrivateKey, to [32]byte, k AppSecret, plain []byte) (*Envelope, error) {
	public, err := hpke.DHKEM(ecdh.X25519()).NewPublicKey(to[:])
	if err != nil {
		return nil, Errorf(CodeMalformed, "seal: the key of the receiver's presence is none")
	}
	enc, sender, err := hpke.NewSender(public, hpke.HKDFSHA256(), hpke.AES128GCM(), h.info(k))
	if err != nil {
		return nil, Errorf(CodeMalformed, "seal: the key of the receiver's presence is none")
	}
	sealed, err := sender.Seal(h.aad(), plain)
	if err != nil {
		return nil, Errorf(CodeInternal, "seal: %v", err)
	}
	return signEnvelope(key, &EnvelopeBody{
		App: h.App[:], From: h.From.Bytes(), To: h.To.Bytes(), Sequence: h.Sequence, Kind: h.Kind, Enc: enc, Sealed: sealed,
	})
}

func signEnvelope(key ed25519.PrivateKey, b *EnvelopeBody) (*Envelope, error) {
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(b)
	if err != nil {
		return nil, Errorf(CodeInternal, "seal: %v", err)
	}
	return &Envelope{Body: body, Signature: ed25519.Sign(key, envelopeBytes(body))}, nil
}

func envelopeBytes(body []byte) []byte { return append([]byte("peerserver/1/envelope"), body...) }

// SealKey is the X25519 key of one join.
type SealKey struct{ key hpke.PrivateKey }

// NewSealKey makes one of 32 random bytes.
func NewSealKey(random [32]byte) (SealKey, error) {
	key, err := hpke.DHKEM(ecdh.X25519()).NewPrivateKey(random[:])
	return SealKey{key}, err
}

// Public goes into the presence.
func (k SealKey) Public() [32]byte { return [32]byte(k.key.PublicKey().Bytes()) }

// Open checks an Envelope for a member of an app and opens it. The checks are,
// in this order: that it parses, app, receiver, signature, seal. That no
// sequence is taken twice is for the caller, by a Window of the pair.
func (e *Envelope) Open(app AppID, to Member, key SealKey, k AppSecret) (*EnvelopeHeader, []byte, error) {
	b, from, err := e.parse()
	if err != nil {
		return nil, nil, err
	}
	if string(b.App) != string(app[:]) || string(b.To) != string(to.Bytes()) || b.Kind == EnvelopeBody_KIND_BROADCAST {
		return nil, nil, Errorf(CodeDenied, "envelope: it is for another app or member")
	}
	if !ed25519.Verify(from.Peer[:], envelopeBytes(e.Body), e.Signature) {
		return nil, nil, Errorf(CodeSignature, "envelope: the signature does not verify")
	}
	h := &EnvelopeHeader{App: app, From: from, To: to, Sequence: b.Sequence, Kind: b.Kind}
	r, err := hpke.NewRecipient(b.Enc, key.key, hpke.HKDFSHA256(), hpke.AES128GCM(), h.info(k))
	if err != nil {
		return nil, nil, Errorf(CodeMalformed, "envelope: it has no key")
	}
	plain, err := r.Open(h.aad(), b.Sealed)
	if err != nil {
		return nil, nil, Errorf(CodeSignature, "envelope: it was not sealed for this member, or with another secret")
	}
	return h, plain, nil
}

// parse reads what an Envelope says, of which nothing is checked yet.
func (e *Envelope) parse() (*EnvelopeBody, Member, error) {
	b := new(EnvelopeBody)
	if e == nil || len(e.Body) > MaxPayload || proto.Unmarshal(e.Body, b) != nil || b.Sequence == 0 {
		return nil, Member{}, Errorf(CodeMalformed, "envelope: it does not parse")
	}
	from, err := ParseMember(b.From)
	return b, from, err
}

// BroadcastKey is what broadcasts of an app are sealed with: whoever knows the
// app's secret, or its name when it has none, can read them, and no node.
func BroadcastKey(app AppID, name, secret []byte) (k [16]byte) {
	if len(secret) == 0 {
		secret = name
	}
	// It fails only for lengths that are not asked for here.
	b, err := hkdf.Key(sha256.New, secret, nil, "peerserver/1/broadcast"+string(app[:]), len(k))
	if err == nil {
		copy(k[:], b)
	}
	return k
}

// broadcastAEAD is AES-128-GCM. It fails only for keys of other sizes.
func broadcastAEAD(k [16]byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(k[:])
	if err != nil {
		return nil, Errorf(CodeInternal, "broadcast: %v", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, Errorf(CodeInternal, "broadcast: %v", err)
	}
	return aead, nil
}

func (h *EnvelopeHeader) broadcastAAD() []byte { return append(h.From.Bytes(), h.aad()...) }

// SealBroadcast makes an Envelope for all members of an app. To and Kind are
// not looked at; Sequence is of the sender's broadcasts alone.
func (h *EnvelopeHeader) SealBroadcast(key ed25519.PrivateKey, k [16]byte, plain []byte) (*Envelope, error) {
	aead, err := broadcastAEAD(k)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, aead.NonceSize())
	rand.Read(nonce)
	to := EnvelopeHeader{App: h.App, From: h.From, Sequence: h.Sequence, Kind: EnvelopeBody_KIND_BROADCAST}
	return signEnvelope(key, &EnvelopeBody{
		App: h.App[:], From: h.From.Bytes(), Sequence: h.Sequence, Kind: to.Kind, Enc: nonce,
		Sealed: aead.Seal(nil, nonce, plain, to.broadcastAAD()),
	})
}

// OpenBroadcast checks a broadcast of an app and opens it. The checks are, in
// this order: that it parses, app and that it is a broadcast, signature, seal.
// That no sequence is taken twice is for the caller, by a Window of the
// sender's broadcasts. The header has no To.
func (e *Envelope) OpenBroadcast(app AppID, k [16]byte) (*EnvelopeHeader, []byte, error) {
	b, from, err := e.parse()
	if err != nil {
		return nil, nil, err
	}
	if string(b.App) != string(app[:]) || len(b.To) != 0 || b.Kind != EnvelopeBody_KIND_BROADCAST {
		return nil, nil, Errorf(CodeDenied, "broadcast: it is for another app, or for one member")
	}
	if !ed25519.Verify(from.Peer[:], envelopeBytes(e.Body), e.Signature) {
		return nil, nil, Errorf(CodeSignature, "broadcast: the signature does not verify")
	}
	aead, err := broadcastAEAD(k)
	if err != nil {
		return nil, nil, err
	}
	if len(b.Enc) != aead.NonceSize() {
		return nil, nil, Errorf(CodeMalformed, "broadcast: its nonce has not %d bytes", aead.NonceSize())
	}
	h := &EnvelopeHeader{App: app, From: from, Sequence: b.Sequence, Kind: b.Kind}
	plain, err := aead.Open(nil, b.Enc, b.Sealed, h.broadcastAAD())
	if err != nil {
		return nil, nil, Errorf(CodeSignature, "broadcast: it was sealed for another app, or with another secret")
	}
	return h, plain, nil
}

// Window takes each sequence of a pair once: signals may come by several ways,
// out of order by less than 64.
type Window struct {
	top  uint64 // the highest taken
	seen uint64 // bit n: top-n was taken
}

// Take reports false for what was taken before (CodeExpired) or is too old to
// tell (CodeStale).
func (w *Window) Take(sequence uint64) error {
	switch {
	case sequence > w.top:
		if shift := sequence - w.top; shift < 64 {
			w.seen = w.seen<<shift | 1
		} else {
			w.seen = 1
		}
		w.top = sequence
	case w.top-sequence >= 64:
		return Errorf(CodeStale, "envelope: sequence %d comes long after %d", sequence, w.top)
	case w.seen&(1<<(w.top-sequence)) != 0:
		return Errorf(CodeExpired, "envelope: sequence %d was taken before", sequence)
	default:
		w.seen |= 1 << (w.top - sequence)
	}
	return nil
}
