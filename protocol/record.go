package protocol

import (
	"bytes"
	"crypto/ed25519"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
)

// Record is what a verified SignedRecord says.
type Record struct {
	Node     NodeID
	Seq      int64 // unix ms of issue, rising
	TTL      time.Duration
	URLs     []string // scheme and host of the link, ws or wss, no path
	STUNPort uint16   // UDP; 0: none
	TURNPort uint16   // UDP and TCP; 0: none
	TURNTLS  []uint16 // ports for TURN over TLS
	Load     int      // 0 idle to 3 full
	Signed   *SignedRecord
}

// SignRecord makes the signed form of r, with r.Seq as its sequence. r.Node
// and r.Signed are filled in.
func SignRecord(key ed25519.PrivateKey, r *Record) error {
	body := &RecordBody{
		Version: Version, Ttl: uint32(r.TTL / time.Second), Urls: r.URLs,
		StunPort: uint32(r.STUNPort), TurnPort: uint32(r.TURNPort), Load: uint32(r.Load),
	}
	for _, p := range r.TURNTLS {
		body.TurnTlsPorts = append(body.TurnTlsPorts, uint32(p))
	}
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(body)
	if err != nil {
		return err
	}
	r.Node = NodeID(key.Public().(ed25519.PublicKey))
	s := &SignedRecord{Key: r.Node[:], Seq: r.Seq, Value: bencodeString(raw)}
	s.Signature = ed25519.Sign(key, s.signedBytes())
	if n := s.size(); n > MaxRecord {
		return Errorf(CodeTooLarge, "record of %d bytes is over %d; use fewer or shorter URLs", n, MaxRecord)
	}
	r.Signed = s
	return nil
}

// Verify checks a record in the order that costs least first: size, target,
// sequence against now, signature, parse, time to live. Whether the sequence
// is lower than one seen before, and whether its URLs may be dialled, are the
// caller's next two questions. A zero want accepts any key.
func (s *SignedRecord) Verify(want NodeID, now time.Time) (*Record, error) {
	if s == nil || len(s.Key) != ed25519.PublicKeySize || len(s.Signature) != ed25519.SignatureSize || s.size() > MaxRecord {
		return nil, Errorf(CodeMalformed, "record is not of the size of one")
	}
	if want != (NodeID{}) && !bytes.Equal(want[:], s.Key) {
		return nil, Errorf(CodeMalformed, "record is of another node")
	}
	issued := time.UnixMilli(s.Seq)
	if s.Seq <= 0 || issued.After(now.Add(RecordAhead)) {
		return nil, Errorf(CodeStale, "record is issued in the future; is the clock right?")
	}
	if !ed25519.Verify(s.Key, s.signedBytes(), s.Signature) {
		return nil, Errorf(CodeSignature, "record's signature does not verify")
	}
	raw, ok := unbencodeString(s.Value)
	if !ok {
		return nil, Errorf(CodeMalformed, "record's value is not one byte string")
	}
	var body RecordBody
	if err := proto.Unmarshal(raw, &body); err != nil {
		return nil, Errorf(CodeMalformed, "record does not parse")
	}
	if body.Version != Version {
		return nil, Errorf(CodeVersion, "record is of version %d, this program knows %d", body.Version, Version)
	}
	if len(body.Urls) > MaxRecordURLs || body.StunPort > 65535 || body.TurnPort > 65535 || body.Load > 3 || len(body.TurnTlsPorts) > MaxTURNTLS {
		return nil, Errorf(CodeMalformed, "record's fields are out of range")
	}
	var tls []uint16
	for _, p := range body.TurnTlsPorts {
		if p == 0 || p > 65535 {
			return nil, Errorf(CodeMalformed, "record's fields are out of range")
		}
		tls = append(tls, uint16(p))
	}
	for _, u := range body.Urls {
		if _, err := ParseLinkURL(u); err != nil {
			return nil, err
		}
	}
	ttl := time.Duration(body.Ttl) * time.Second
	if ttl <= 0 || ttl > RecordTTL || issued.Add(ttl).Before(now) {
		return nil, Errorf(CodeStale, "record has expired")
	}
	return &Record{
		Node: NodeID(s.Key), Seq: s.Seq, TTL: ttl, URLs: body.Urls, Signed: s,
		STUNPort: uint16(body.StunPort), TURNPort: uint16(body.TurnPort), TURNTLS: tls, Load: int(body.Load),
	}, nil
}

// Expires is when the record ends.
func (r *Record) Expires() time.Time { return time.UnixMilli(r.Seq).Add(r.TTL) }

// signedBytes is what BEP 44 signs: salt, seq and v as they stand in a
// bencoded dictionary, without its "d" and "e".
func (s *SignedRecord) signedBytes() []byte {
	b := append([]byte("4:salt"), bencodeString([]byte(RecordSalt))...)
	b = append(b, "3:seqi"...)
	b = strconv.AppendInt(b, s.Seq, 10)
	b = append(b, "e1:v"...)
	return append(b, s.Value...)
}

func (s *SignedRecord) size() int { return len(s.Key) + 8 + len(s.Value) + len(s.Signature) }

func bencodeString(b []byte) []byte {
	return append(append(strconv.AppendInt(nil, int64(len(b)), 10), ':'), b...)
}

func unbencodeString(b []byte) ([]byte, bool) {
	digits, rest, ok := bytes.Cut(b, []byte{':'})
	if !ok || len(digits) == 0 || len(digits) > 4 || (len(digits) > 1 && digits[0] == '0') {
		return nil, false
	}
	n, err := strconv.ParseUint(string(digits), 10, 16)
	return rest, err == nil && int(n) == len(rest)
}

// LinkURL is where a link can be dialled.
type LinkURL struct {
	Secure bool
	Host   string // a name or an IP address, without brackets
	Port   uint16
}

// ParseLinkURL accepts wss://host[:port] and ws://ip:port and nothing around
// it. Plain ws needs an address: a name without TLS proves nothing. One place
// has one LinkURL: names are made lower case, addresses get their shortest
// form. It is not net/url's grammar, which lets through hosts that programs
// disagree on.
func ParseLinkURL(s string) (LinkURL, error) {
	bad := Errorf(CodeMalformed, "link URL is not of the form wss://host[:port] or ws://ip:port")
	rest, secure := strings.CutPrefix(s, "wss://")
	if !secure {
		var plain bool
		if rest, plain = strings.CutPrefix(s, "ws://"); !plain {
			return LinkURL{}, bad
		}
	}
	host, port, hasPort := cutPort(rest)
	ip, isIP := linkIP(host)
	if isIP {
		host = ip
	} else {
		host = strings.Map(asciiLower, host) // the Kelvin sign is no k
	}
	if len(s) > MaxURL || !(isIP || (secure && linkName(host))) || !(secure || hasPort) {
		return LinkURL{}, bad
	}
	l := LinkURL{Secure: secure, Host: host, Port: 443}
	if hasPort {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 || port[0] == '0' {
			return LinkURL{}, bad
		}
		l.Port = uint16(n)
	}
	if l.Port < 1024 && l.Port != 80 && l.Port != 443 {
		return LinkURL{}, Errorf(CodeRefused, "link URL has a port under 1024 other than 80 and 443")
	}
	return l, nil
}

func asciiLower(r rune) rune {
	if 'A' <= r && r <= 'Z' {
		return r + 'a' - 'A'
	}
	return r
}

// cutPort cuts at the colon behind the host, brackets included.
func cutPort(s string) (host, port string, hasPort bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 || i < strings.LastIndexByte(s, ']') {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// linkIP reads an IPv4 address, or an IPv6 one in brackets and without a zone,
// which means something on one machine only.
func linkIP(host string) (string, bool) {
	inner, v6 := strings.CutPrefix(host, "[")
	if v6 {
		inner, v6 = strings.CutSuffix(inner, "]")
	}
	ip, err := netip.ParseAddr(inner)
	if err != nil || ip.Is6() != v6 || ip.Zone() != "" {
		return "", false
	}
	return ip.Unmap().String(), true
}

// linkName says whether host is a name: labels of a-z, 0-9, - and _, of which
// the last does not begin with a digit. Browsers take 0x7f.1 for an address.
func linkName(host string) bool {
	labels := strings.Split(host, ".")
	for _, label := range labels {
		if len(label) == 0 || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	last := labels[len(labels)-1]
	return len(host) <= 253 && (last[0] < '0' || last[0] > '9')
}

// String is the URL with its port.
func (l LinkURL) String() string {
	scheme := "ws://"
	if l.Secure {
		scheme = "wss://"
	}
	return scheme + net.JoinHostPort(l.Host, strconv.Itoa(int(l.Port)))
}
