package protocol

import (
	"bytes"
	"crypto/ed25519"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
)

// FuzzParseLinkURL: what is accepted has one spelling, is dialled as it is
// written, and is a name only with TLS.
func FuzzParseLinkURL(f *testing.F) {
	for _, v := range urlCases() {
		f.Add(v.URL)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := ParseLinkURL(s)
		if err != nil {
			return
		}
		again, err := ParseLinkURL(u.String())
		if err != nil || again != u {
			t.Fatalf("%q is %q, which is %q, %v", s, u, again, err)
		}
		if u.Port == 0 || (u.Port < 1024 && u.Port != 80 && u.Port != 443) {
			t.Fatalf("%q: port %d", s, u.Port)
		}
		ip, ipErr := netip.ParseAddr(u.Host)
		if !u.Secure && ipErr != nil {
			t.Fatalf("%q: a name in the clear", s)
		}
		if ipErr == nil && (ip.String() != u.Host || ip.Is4In6() || ip.Zone() != "") {
			t.Fatalf("%q: %q is not the address's one spelling", s, u.Host)
		}
		if ipErr != nil && strings.Trim(u.Host, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" {
			t.Fatalf("%q: host %q", s, u.Host)
		}
	})
}

// FuzzRecord signs anything as a record's value: what is accepted is within
// all limits and means the same when it is signed again.
func FuzzRecord(f *testing.F) {
	key := testKey(1)
	for _, c := range recordCases() {
		if r := c.Record.signed(f); bytes.Equal(r.Key, key.Public().(ed25519.PublicKey)) {
			f.Add(r.Value, r.Seq, c.Now)
		}
	}
	f.Fuzz(func(t *testing.T, value []byte, seq, ms int64) {
		now := time.UnixMilli(ms)
		s := sign(key, seq, value)
		raw, err := proto.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var read SignedRecord
		if err := proto.Unmarshal(raw, &read); err != nil {
			t.Fatal(err)
		}
		r, err := read.Verify(NodeID{}, now)
		if err != nil {
			return
		}
		if r.Node != NodeID(s.Key) || r.Seq != seq || r.TTL <= 0 || r.TTL > RecordTTL || r.Load < 0 || r.Load > 3 ||
			len(r.URLs) > MaxRecordURLs || len(raw) > MaxRecord+16 || r.Expires().Before(now) {
			t.Fatalf("record %+v", r)
		}
		for _, u := range r.URLs {
			if _, err := ParseLinkURL(u); err != nil {
				t.Fatal(err)
			}
		}
		again := *r
		if err := SignRecord(key, &again); err != nil {
			t.Fatal(err)
		}
		same, err := again.Signed.Verify(r.Node, now)
		if err != nil || !slices.Equal(same.URLs, r.URLs) || same.TTL != r.TTL || same.Seq != r.Seq ||
			same.STUNPort != r.STUNPort || same.TURNPort != r.TURNPort || same.Load != r.Load {
			t.Fatalf("%+v became %+v, %v", r, same, err)
		}
		s.Signature[int(s.Value[len(s.Value)-1])%64] ^= 1
		if _, err := s.Verify(NodeID{}, now); err == nil {
			t.Fatal("a changed signature is accepted")
		}
	})
}

// FuzzSignedRecord reads anything as a signed record.
func FuzzSignedRecord(f *testing.F) {
	for _, c := range recordCases() {
		raw, err := proto.Marshal(c.Record.signed(f))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, c.Now)
	}
	f.Fuzz(func(t *testing.T, raw []byte, ms int64) {
		var s SignedRecord
		if proto.Unmarshal(raw, &s) != nil {
			return
		}
		if r, err := s.Verify(NodeID{}, time.UnixMilli(ms)); err == nil && !ed25519.Verify(r.Node[:], s.signedBytes(), s.Signature) {
			t.Fatal("a record without signature is accepted")
		}
	})
}

// FuzzParseNodeID: a node has one spelling.
func FuzzParseNodeID(f *testing.F) {
	f.Add(NodeID{}.String())
	f.Add(NodeID(testKey(1).Public().(ed25519.PublicKey)).String())
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := ParseNodeID(s); err == nil && id.String() != s {
			t.Fatalf("%q is %v", s, id)
		}
	})
}
