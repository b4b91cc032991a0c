//go:build unix

package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/peerservers/peerserver/cmd/peerserver/doctor"
)

// TestDoctorHere looks at the node of this machine, which is found by its data
// folder or its admin address, and says what it finds to people and to programs.
func TestDoctorHere(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	_, n := startNode(t, "--data", dir)
	for _, where := range [][]string{{"--data", dir}, {"--admin", strings.TrimPrefix(n.Admin, "http://")}, {n.URL}} {
		code, out, errs := call(t, append([]string{"doctor", "--json", "--idle", "10ms"}, where...)...)
		var r doctor.Report
		if err := json.Unmarshal([]byte(out), &r); err != nil || strings.Count(out, "\n") != 1 {
			t.Fatalf("%v: %v in %q", where, err, out)
		}
		if code != 0 || !r.OK || r.Node != n.ID || r.URL != n.URL || errs != "" || len(r.Findings) < 10 {
			t.Errorf("%v: %d, %s, %q", where, code, out, errs)
		}
	}
	code, out, errs := call(t, "doctor", "--idle", "10ms", "--data", dir)
	if code != 0 || !strings.HasPrefix(out, "ok       node ") || !strings.Contains(out, "0 failed") || !strings.Contains(errs, "looking at clock ...\n") {
		t.Errorf("for people: %d\n%s%s", code, out, errs)
	}
}

// TestDoctorFails: a failure is seen by the exit status, and comes with what to
// do.
func TestDoctorFails(t *testing.T) {
	t.Parallel()
	code, out, errs := call(t, "doctor", "--admin", "127.0.0.1:1")
	if code != 1 || !strings.Contains(out, "failed   node_down ") || !strings.Contains(out, "Start the node") || !strings.Contains(errs, "1 of 1 findings are failures") {
		t.Errorf("%d\n%s%s", code, out, errs)
	}
	for _, c := range []struct{ args, says string }{
		{"a b", "name one URL"},
		{"--data " + t.TempDir(), "give its URL"},
	} {
		if code, out, errs := call(t, append([]string{"doctor"}, strings.Fields(c.args)...)...); code != 1 || out != "" || !strings.Contains(errs, c.says) {
			t.Errorf("%s: %d %q %q", c.args, code, out, errs)
		}
	}
}
