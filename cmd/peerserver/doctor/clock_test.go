package doctor_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/peerservers/peerserver/cmd/peerserver/doctor"
	"github.com/peerservers/peerserver/node"
)

// TestClocks: something in front of a node shows another time than it is. Of an
// older node, which does not tell its own, the Date of its answers counts.
func TestClocks(t *testing.T) {
	t.Parallel()
	n := startNode(t, node.Config{})
	for _, c := range []struct {
		name  string
		ahead time.Duration
		older bool
		want  []doctor.Code
	}{
		{"right", 0, false, nil},
		{"a minute ahead", time.Minute, false, []doctor.Code{doctor.ClockOff}},
		{"a quarter of an hour ahead", 15 * time.Minute, false, []doctor.Code{doctor.ClockWrong}},
		{"a quarter of an hour behind", -15 * time.Minute, false, []doctor.Code{doctor.ClockWrong}},
		{"right, by its Date", 0, true, nil},
		{"behind, by its Date", -15 * time.Minute, true, []doctor.Code{doctor.ClockWrong}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				w.Header().Set("Date", time.Now().Add(c.ahead).UTC().Format(http.TimeFormat))
				if q.URL.Path != "/v1/seen" {
					proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: n.Addr().String()})
					proxy.ModifyResponse = func(r *http.Response) error { r.Header.Del("Date"); return nil }
					proxy.ServeHTTP(w, q)
					return
				}
				if c.older {
					http.NotFound(w, q)
					return
				}
				_ = json.NewEncoder(w).Encode(node.Seen{Time: time.Now().Add(c.ahead).UnixMilli(), Address: "loopback"})
			}))
			defer front.Close()
			r := run(t, doctor.Options{URL: front.URL})
			got := slices.DeleteFunc(codes(r), func(c doctor.Code) bool { return !strings.HasPrefix(string(c), "clock") })
			if !slices.Equal(got, c.want) || names(r, doctor.SeenNone) != c.older {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}
