package doctor_test

import (
	"slices"
	"testing"
	"time"

	"github.com/peerservers/peerserver/cmd/peerserver/doctor"
	"github.com/peerservers/peerserver/node"
	"github.com/peerservers/peerserver/testnet/certs"
)

const day = 24 * time.Hour

// TestCertificates gives real nodes certificates with one fault each. They are
// all of no CA that is known, too, except where this program knows it.
func TestCertificates(t *testing.T) {
	t.Parallel()
	ca, now := certs.New(t), time.Now()
	for _, c := range []struct {
		name  string
		of    certs.Leaf
		known bool // the CA is
		want  []doctor.Code
	}{
		{"a good one", certs.Leaf{}, true, nil},
		{"expired", certs.Leaf{Until: now.Add(-3 * day)}, true, []doctor.Code{doctor.TLSExpired}},
		{"soon", certs.Leaf{Until: now.Add(5 * day)}, true, []doctor.Code{doctor.TLSSoon}},
		{"not yet", certs.Leaf{From: now.Add(2 * day)}, true, []doctor.Code{doctor.TLSEarly}},
		{"of another name", certs.Leaf{Names: []string{"other.example"}}, true, []doctor.Code{doctor.TLSName}},
		{"of nobody", certs.Leaf{}, false, []doctor.Code{doctor.TLSUntrusted}},
		{"expired and of nobody", certs.Leaf{Until: now.Add(-3 * day)}, false, []doctor.Code{doctor.TLSExpired, doctor.TLSUntrusted}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cert, key := ca.Files(t, c.of)
			n := startNode(t, node.Config{TLSCert: cert, TLSKey: key})
			o := doctor.Options{URL: "https://" + n.Addr().String()}
			if c.known {
				o.Roots = ca.Pool()
			}
			r := run(t, o)
			var got []doctor.Code
			for _, f := range r.Findings {
				if f.Check == "tls" && f.State != doctor.OK && f.State != doctor.Skipped {
					got = append(got, f.Code)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
			if !slices.ContainsFunc(r.Findings, func(f doctor.Finding) bool { return f.Check == "login" && f.State == doctor.OK }) {
				t.Error("nothing else is looked at")
			}
		})
	}
}
