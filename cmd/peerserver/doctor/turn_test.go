package doctor_test

import (
	"strings"
	"testing"

	"github.com/peerservers/peerserver/cmd/peerserver/doctor"
	"github.com/peerservers/peerserver/node"
	"github.com/peerservers/peerserver/testnet/certs"
)

// TestTURNOverTLS: allocations over TLS are tried too, at the node's own port and
// at that of TURN.
func TestTURNOverTLS(t *testing.T) {
	t.Parallel()
	ca := certs.New(t)
	cert, key := ca.Files(t, certs.Leaf{})
	n := startNode(t, node.Config{TLSCert: cert, TLSKey: key, STUN: "127.0.0.1:0", TURN: true, TURNTLS: "127.0.0.1:0", TURNAllowPrivate: true})
	r := run(t, doctor.Options{URL: "https://" + n.Addr().String(), Roots: ca.Pool()})
	over := 0
	for _, f := range r.Findings {
		if strings.HasPrefix(f.Found, "TURN over TLS") && strings.HasSuffix(f.Found, "relays between two peers, and from here.") {
			over++
		}
	}
	if !r.OK || over != 2 {
		t.Errorf("%v, and TURN over TLS relays at %d ports, want 2", codes(r), over)
	}
}
