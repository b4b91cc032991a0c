package proxies

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/peerservers/peerserver/cmd/peerserver/doctor"
	"github.com/peerservers/peerserver/node"
)

// TestDoctor: what operators get wrong in a proxy is named, and the snippets have
// nothing wrong.
func TestDoctor(t *testing.T) {
	caddy, nginx := kinds()[0], kinds()[1]
	for _, c := range []struct {
		name   string
		of     kind
		cfg    node.Config
		change func(t *testing.T, snippet string) string
		gone   bool // the node is
		want   []doctor.Code
	}{
		{name: "caddy", of: caddy, cfg: node.Config{TrustedProxies: trusted}},
		{name: "nginx", of: nginx, cfg: node.Config{TrustedProxies: trusted}},
		{name: "caddy that is not trusted", of: caddy, want: []doctor.Code{doctor.ProxyUntrusted}},
		{name: "nginx that is not trusted", of: nginx, want: []doctor.Code{doctor.ProxyUntrusted}},
		{
			name: "nginx without Upgrade", of: nginx, cfg: node.Config{TrustedProxies: trusted}, want: []doctor.Code{doctor.WSUpgrade},
			change: func(t *testing.T, s string) string { return replace(t, s, "proxy_set_header Upgrade", "#") },
		},
		{
			name: "nginx with little patience", of: nginx, cfg: node.Config{TrustedProxies: trusted}, want: []doctor.Code{doctor.WSIdle},
			change: func(t *testing.T, s string) string {
				return replace(t, s, "proxy_read_timeout 150s", "proxy_read_timeout 1s")
			},
		},
		{
			name: "caddy with one path", of: caddy, cfg: node.Config{TrustedProxies: trusted}, want: []doctor.Code{doctor.WSPath},
			change: func(t *testing.T, s string) string {
				return replace(t, s, "reverse_proxy ", "respond /link 404\n\treverse_proxy ")
			},
		},
		{name: "caddy whose node is gone", of: caddy, gone: true, want: []doctor.Code{doctor.ProxyNoNode}},
		{name: "nginx whose node is gone", of: nginx, gone: true, want: []doctor.Code{doctor.ProxyNoNode}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			host := "127.0.0.1" // nginx answers to any name
			p := c.of.start(t, c.cfg, func(s string) string {
				if c.of.name == "caddy" {
					host = "localhost"
					s = replace(t, s, "node.example.org {", "node.example.org, localhost {")
				}
				if c.change != nil {
					s = c.change(t, s)
				}
				return s
			})
			if c.gone {
				p.stop()
			}
			r := doctor.Run(t.Context(), doctor.Options{URL: fmt.Sprintf("https://%s:%d", host, p.port), Roots: p.tls.RootCAs, Idle: 3 * time.Second, Bootstrap: []string{"127.0.0.1:1"}})
			var got []doctor.Code
			for _, f := range r.Findings {
				if f.State == doctor.Failed || f.State == doctor.Warning {
					if strings.HasPrefix(string(f.Code), "ws_") || strings.HasPrefix(string(f.Code), "proxy_") || f.Code == doctor.NodeOther {
						got = append(got, f.Code)
					}
				}
			}
			if slices.Sort(got); !slices.Equal(slices.Compact(got), c.want) {
				t.Errorf("got %v, want %v", got, c.want)
				for _, f := range r.Findings {
					t.Logf("%s %s %s: %s", f.State, f.Check, f.Code, f.Found)
				}
			}
		})
	}
}
