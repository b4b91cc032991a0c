package node_test

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/peerservers/peerserver/node"
)

// TestSeen: a node tells how a request has come, by which a proxy that is not
// believed is noticed, and no address.
func TestSeen(t *testing.T) {
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	both := append([]netip.Prefix{netip.MustParsePrefix("198.51.0.0/16")}, loopback...)
	for _, c := range []struct {
		name    string
		proxies []netip.Prefix
		hops    []string
		want    node.Seen
	}{
		{"itself", nil, nil, node.Seen{Address: "loopback"}},
		{"a proxy that nobody trusts", nil, []string{"8.8.8.8"}, node.Seen{Address: "loopback", Forwarded: true}},
		{"a proxy that is trusted", loopback, []string{"8.8.8.8"}, node.Seen{Address: "public", Forwarded: true, Trusted: true}},
		{"one that does not say for whom", loopback, nil, node.Seen{Address: "loopback", Trusted: true}},
		{"two of them", both, []string{"192.168.1.9, 198.51.1.1"}, node.Seen{Address: "private", Forwarded: true, Trusted: true}},
		{"in two headers", loopback, []string{"8.8.8.8", "10.0.0.1"}, node.Seen{Address: "private", Forwarded: true, Trusted: true}},
		{"what the client claims does not count", loopback, []string{"127.0.0.1, 8.8.8.8"}, node.Seen{Address: "public", Forwarded: true, Trusted: true}},
		{"nonsense", loopback, []string{"unknown"}, node.Seen{Address: "loopback", Forwarded: true, Trusted: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := startNode(t, node.Config{TrustedProxies: c.proxies})
			header := http.Header{}
			for _, h := range c.hops {
				header.Add("X-Forwarded-For", h)
			}
			answer, body := ask(t, n, http.MethodGet, "/v1/seen", header)
			var got node.Seen
			if err := json.Unmarshal([]byte(body), &got); err != nil || answer.StatusCode != http.StatusOK || got.Time == 0 {
				t.Fatalf("%d %s", answer.StatusCode, body)
			}
			if strings.Contains(body, "8.8") || strings.Contains(body, "127.0") {
				t.Errorf("it has an address: %s", body)
			}
			if got.Time = 0; got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

// TestAdminOf: a data folder says where its node's admin pages are, which say
// where the node is.
func TestAdminOf(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if at, err := node.AdminOf(dir); at != "" || err != nil {
		t.Errorf("of no folder: %q, %v", at, err)
	}
	n := startNode(t, node.Config{Data: dir, Admin: "127.0.0.1:0"})
	at, err := node.AdminOf(dir)
	if err != nil || at != n.Admin().String() {
		t.Fatalf("it says %q, %v, and is at %s", at, err, n.Admin())
	}
	answer, err := http.Get("http://" + at + "/self.json")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var self node.Self
	if err := json.NewDecoder(answer.Body).Decode(&self); err != nil || self.Node != n.ID() || self.Listen != n.Addr().String() || self.DHT != "" {
		t.Errorf("%v in %+v", err, self)
	}
}
