package doctor_test

import (
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/peerservers/peerserver/cmd/peerserver/doctor"
	"github.com/peerservers/peerserver/node"
	"github.com/peerservers/peerserver/testnet/certs"
)

// TestSettings: what a node is told to be without, or to be, is named.
func TestSettings(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		cfg  node.Config
		want []doctor.Code
	}{
		{"as it is", node.Config{}, []doctor.Code{doctor.DHTOff, doctor.ReachUnknown, doctor.NotTried, doctor.TURNOff}},
		{"no STUN", node.Config{STUN: "none"}, []doctor.Code{doctor.STUNNone, doctor.TURNOff, doctor.NATUnknown}},
		{"no door for peers", node.Config{Without: []string{"peer"}, STUN: "127.0.0.1:0", TURN: true}, []doctor.Code{doctor.LoginOff}},
		{"no door for trackers", node.Config{Without: []string{"tracker"}}, []doctor.Code{doctor.NotTried}},
		{"nobody to meet in the DHT", node.Config{Bootstrap: []string{"127.0.0.1:1"}}, []doctor.Code{doctor.DHTAlone, doctor.DHTUnpublished, doctor.DHTHere}},
		{"a proxy that is not there", node.Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, []doctor.Code{doctor.ProxySilent}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := startNode(t, c.cfg)
			r := run(t, doctor.Options{URL: "http://" + n.Addr().String()})
			for _, code := range c.want {
				if !names(r, code) {
					t.Errorf("nothing says %s", code)
				}
			}
			if c.cfg.TURN && names(r, doctor.TURNOff) {
				t.Errorf("it has TURN, and is said to have none")
			}
		})
	}
}

// TestElsewhere: the node of this machine, which others are told to reach where it
// is not.
func TestElsewhere(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	n := startNode(t, node.Config{Admin: "127.0.0.1:0", URLs: []string{"ws://" + l.Addr().String()}})
	r := run(t, doctor.Options{Admin: n.Admin().String()})
	if !has(r, doctor.URLNotHere) || r.URL != "http://"+n.Addr().String() {
		t.Errorf("%v of %s", codes(r), r.URL)
	}
}

// TestNotRenewed: a certificate is good, and there is one that the node cannot use.
func TestNotRenewed(t *testing.T) {
	t.Parallel()
	ca := certs.New(t)
	cert, key := ca.Files(t, certs.Leaf{})
	n := startNode(t, node.Config{TLSCert: cert, TLSKey: key})
	if err := os.WriteFile(cert, []byte("half a certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(patience); n.Stats().TLS.Fault == "" && time.Now().Before(end); {
		time.Sleep(100 * time.Millisecond)
	}
	if r := run(t, doctor.Options{URL: "https://" + n.Addr().String(), Roots: ca.Pool()}); !has(r, doctor.TLSRenewal) {
		t.Errorf("%v", codes(r))
	}
}
