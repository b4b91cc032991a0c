package doctor_test

import (
	"crypto/ed25519"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/peerservers/peerserver/cmd/peerserver/doctor"
	"github.com/peerservers/peerserver/node"
	"github.com/peerservers/peerserver/protocol"
)

// TestRecords: a cache in front of a node shows a record that is no longer good,
// or something shows one that never was.
func TestRecords(t *testing.T) {
	t.Parallel()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	n := startNode(t, node.Config{Key: key})
	for _, c := range []struct {
		name   string
		issued time.Duration // from now
		spoil  bool
		want   doctor.Code
	}{
		{"as it should be", -time.Minute, false, ""},
		{"old", -3 * time.Hour, false, doctor.RecordExpired},
		{"of the future", time.Hour, false, doctor.RecordFuture},
		{"not signed", -time.Minute, true, doctor.RecordInvalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			about := description(t, key, c.issued, c.spoil)
			proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				if q.URL.Path == "/.well-known/peerserver" {
					_, _ = w.Write(about)
					return
				}
				httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: n.Addr().String()}).ServeHTTP(w, q)
			}))
			defer proxy.Close()
			r := run(t, doctor.Options{URL: proxy.URL})
			got := slices.DeleteFunc(codes(r), func(c doctor.Code) bool { return !strings.HasPrefix(string(c), "record") })
			if c.want == "" && len(got) > 0 || c.want != "" && !slices.Equal(got, []doctor.Code{c.want}) {
				t.Errorf("got %v, want %q", got, c.want)
			}
		})
	}
}

// description is what a node would say of itself with a record of some time.
func description(t *testing.T, key ed25519.PrivateKey, issued time.Duration, spoil bool) []byte {
	t.Helper()
	r := &protocol.Record{Seq: time.Now().Add(issued).UnixMilli(), TTL: protocol.RecordTTL, URLs: []string{"ws://127.0.0.1:8787"}}
	if err := protocol.SignRecord(key, r); err != nil {
		t.Fatal(err)
	}
	if spoil {
		r.Signed.Signature[0] ^= 1
	}
	raw, err := protojson.Marshal(r.Signed)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(node.Description{Version: protocol.Version, Node: r.Node, URLs: r.URLs, Record: raw})
	if err != nil {
		t.Fatal(err)
	}
	return b
}
