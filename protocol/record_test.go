package protocol

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestSignRecord(t *testing.T) {
	now := time.UnixMilli(vectorNow)
	r := &Record{
		Seq: vectorNow, TTL: RecordTTL, URLs: []string{"wss://a.example", "ws://192.0.2.1:8787"},
		STUNPort: 3478, TURNPort: 3479, Load: 3,
	}
	if err := SignRecord(testKey(1), r); err != nil {
		t.Fatal(err)
	}
	got, err := r.Signed.Verify(testNode(1), now)
	if err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("signed %+v, verified %+v, %v", r, got, err)
	}
	if want := now.Add(RecordTTL); !got.Expires().Equal(want) {
		t.Errorf("expires at %v, want %v", got.Expires(), want)
	}
	if _, err := (*SignedRecord)(nil).Verify(NodeID{}, now); codeOf(err) != "malformed" {
		t.Errorf("no record: %v", err)
	}
}

func TestSignRecordTooLarge(t *testing.T) {
	for fits, want := range map[bool]string{true: "ok", false: "too_large"} {
		r := &Record{Seq: vectorNow, TTL: RecordTTL, URLs: fill(fits), STUNPort: 3478, TURNPort: 3478, Load: 1}
		if err := SignRecord(testKey(1), r); codeOf(err) != want {
			t.Errorf("fits %v: %v", fits, err)
		} else if err == nil && r.Signed.size() != MaxRecord {
			t.Errorf("the record that just fits has %d bytes", r.Signed.size())
		}
	}
}

// The bytes signed are those of BEP 44: with its salt and value they are the
// ones of its second test vector, and so is the signature.
func TestSignedBytesBEP44(t *testing.T) {
	s := &SignedRecord{Seq: 1, Value: []byte("12:Hello World!")}
	got := bytes.Replace(s.signedBytes(), []byte("11:peerserver1"), []byte("6:foobar"), 1)
	if want := "4:salt6:foobar3:seqi1e1:v12:Hello World!"; string(got) != want {
		t.Fatalf("signed is %q, want %q", got, want)
	}
	key := unhex(t, "77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548")
	signature := unhex(t, "6834284b6b24c3204eb2fea824d82f88883a3d95e8b4a21b8c0ded553d17d17d"+
		"df9a8a7104b1258f30bed3787e6cb896fca78c58f8e03b5f18f14951a87d9a08")
	if !ed25519.Verify(key, got, signature) {
		t.Error("BEP 44's signature does not verify")
	}
}

func TestLinkURLLength(t *testing.T) {
	host := strings.Repeat(strings.Repeat("a", 59)+".", 4)
	long := "wss://" + host + "example" // 253 bytes
	if _, err := ParseLinkURL(long); err != nil || len(long) != 253 {
		t.Errorf("%d bytes: %v", len(long), err)
	}
	if _, err := ParseLinkURL(long + ":443"); err == nil {
		t.Errorf("%d bytes are a URL", len(long)+4)
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
