//go:build linux

package natlab_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/peerservers/peerserver/testnet/certs"
	"github.com/peerservers/peerserver/testnet/natlab"
)

// examinePublic is a part of TestDoctor: what is wrong only at an address of the
// internet, and cannot be seen on loopback. That is what plain http gives beside
// https, and a node at home, with its ports forwarded by hand, that relays from its
// address there. For the node that is linked to it that is a warning, as is that it
// is no longer reached.
func examinePublic(t *testing.T, binary string) {
	lab, ca := natlab.Start(t, natlab.Config{}), certs.New(t)
	server, inside, from := lab.Server("server"), lab.Home("inside", natlab.PortRestricted), lab.Home("from", natlab.PortRestricted)
	forward(t, inside)
	outside := inside.Network().Router().Addr().String()
	cert, key := ca.Files(t, certs.Leaf{Names: []string{server.Addr().String()}})
	trust := "SSL_CERT_FILE=" + ca.File(t)
	start := func(h *natlab.Host, args ...string) {
		args = append([]string{trust, binary, "node", "--turn", "--stun", ":3478", "--dht=false", "--data=", "--admin=", "--json"}, args...)
		h.Start(t, "env", args...).Await(patience, "start", func(string) bool { return true })
	}
	start(server, "--listen", ":443", "--tls-cert", cert, "--tls-key", key, "--url", "wss://"+server.Addr().String())
	start(inside, "--listen", ":8787", "--url", "ws://"+outside+":8787", "--peer", "https://"+server.Addr().String())

	secure, home := "https://"+server.Addr().String(), "http://"+outside
	// expect looks until it is so: until they are linked, and where something was lost on the way.
	expect := func(url, says string, failed, warned []string) {
		t.Helper()
		for end := time.Now().Add(2 * patience); ; time.Sleep(time.Second) {
			d := examine(t, from, "env", trust, binary, "doctor", "--json", "--idle", "100ms", "--bootstrap", "127.0.0.1:1", url)
			if slices.Equal(d.codes("failed"), failed) && slices.Equal(d.codes("warning"), warned) && d.says(says) {
				return
			}
			if time.Now().After(end) {
				t.Errorf("%v and %v, want %v and %v, and %q", d.codes("failed"), d.codes("warning"), failed, warned, says)
				d.log(t)
				return
			}
		}
	}
	expect(secure, "Plain http:// is not answered", nil, []string{"turn_other_failed"})
	expect(home+":8787", "relays from a private address", []string{"turn_private_address"}, []string{"tls_none"})
	expect(home+":8788", "the URL that was dialled is not this node's", []string{"login_failed"}, []string{"tls_none", "url_not_in_record"})

	plain := server.StartSelf(t, "plain")
	plain.Await(patience, "start", func(string) bool { return true })
	expect(secure, "is answered with 200, and not redirected", nil, []string{"http_not_redirected", "turn_other_failed"})
	plain.Stop()
	server.StartSelf(t, "plain", secure).Await(patience, "start", func(string) bool { return true })
	expect(secure, "is redirected to https://", nil, []string{"turn_other_failed"})

	forgets := inside.Network().Router().Command(t.Context(), "nft", "delete", "table", "ip", "forwarded")
	if out, err := forgets.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	expect(secure, "gives nothing", nil, []string{"stun_other_no_reply", "turn_other_failed"})
}

// forward has the router of a home forward the ports of a node to a machine, as
// its owner would by hand.
func forward(t *testing.T, to *natlab.Host) {
	t.Helper()
	cmd := to.Network().Router().Command(t.Context(), "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(fmt.Sprintf(`
table ip forwarded {
	chain in {
		type nat hook prerouting priority dstnat
		iifname wan tcp dport { 8787, 3478 } dnat to %[1]s
		iifname wan tcp dport 8788 dnat to %[1]s:8787
		iifname wan udp dport { 3478, 50000-50999 } dnat to %[1]s
	}
}
`, to.Addr()))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// plainHTTP answers at port 80: with a page, or with where it is instead.
func plainHTTP(ctx context.Context, args []string) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", ":80")
	if err != nil {
		return err
	}
	server := &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if len(args) > 0 {
			http.Redirect(w, q, args[0]+q.URL.Path, http.StatusMovedPermanently)
			return
		}
		fmt.Fprintln(w, "a page")
	})}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	fmt.Println("ready")
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
