//go:build linux

package natlab_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/peerservers/peerserver/testnet/certs"
	"github.com/peerservers/peerserver/testnet/natlab"

	// What looks at the nodes: go test forgets a pass when it changes.
	_ "github.com/peerservers/peerserver/cmd/peerserver/doctor"
)

// finding is what peerserver doctor --json says of one thing.
type finding struct{ Check, State, Code, Found string }

// diagnosis is all that it says.
type diagnosis struct {
	OK       bool
	Findings []finding
}

// codes are those of what is in a state.
func (d *diagnosis) codes(state string) (list []string) {
	for _, f := range d.Findings {
		if f.State == state {
			list = append(list, f.Code)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func (d *diagnosis) says(text string) bool {
	return slices.ContainsFunc(d.Findings, func(f finding) bool { return strings.Contains(f.Found, text) })
}

// log shows all of it after a failure.
func (d *diagnosis) log(t *testing.T) {
	t.Helper()
	if t.Failed() {
		for _, f := range d.Findings {
			t.Logf("%s %s %s: %s", f.State, f.Check, f.Code, f.Found)
		}
	}
}

// ward is a lab with three nodes of the open internet, which know each other by a
// DHT of their own, and a machine in a home from which they are looked at.
type ward struct {
	lab   *natlab.Lab
	dht   []string
	nodes [3]*natlab.Host
	home  *natlab.Host
}

// startWard starts them; sick is how the first one differs.
func startWard(t *testing.T, binary string, kind natlab.NAT, sick ill) *ward {
	t.Helper()
	w := &ward{lab: natlab.Start(t, natlab.Config{Delay: 10 * time.Millisecond})}
	w.dht = startDHT(t, w.lab)
	for i := range w.nodes {
		w.nodes[i] = w.lab.Server(fmt.Sprint("node", i))
	}
	w.home = w.lab.Home("home", kind)
	for i, host := range w.nodes {
		args := []string{"node", "--listen", ":8787", "--turn", "--data=", "--admin=", "--json", "--stun", ":3478"}
		url := "ws://" + w.at(i)
		args = append(args, w.bootstrap()...)
		program := binary
		if i == 0 && sick.program != "" {
			program = sick.program
		}
		if i == 0 && sick.flags != nil {
			url = "wss://" + w.at(i)
			args = append(args, sick.flags...)
		}
		host.Start(t, program, append(args, "--url", url)...).Await(patience, "start", func(string) bool { return true })
	}
	if sick.rules != "" {
		cmd := w.nodes[0].Command(t.Context(), "nft", "-f", "-")
		cmd.Stdin = strings.NewReader(sick.rules)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	return w
}

func (w *ward) at(i int) string { return netip.AddrPortFrom(w.nodes[i].Addr(), 8787).String() }

func (w *ward) bootstrap() (flags []string) {
	for _, at := range w.dht {
		flags = append(flags, "--bootstrap", at)
	}
	return flags
}

// ill is what is wrong with a node.
type ill struct {
	program string   // another one than the others have
	flags   []string // more of them; the node has TLS then
	rules   string   // of nft, on its machine
	healthy bool     // it is to be waited for until all is well
}

// TestDoctor runs the program against real nodes from another machine, behind a
// NAT: a healthy node, one whose firewall lets no UDP in, one with a wrong clock,
// one with an expired certificate. It names each fault, what follows from it, and
// no other.
//
// The wrong clock is that of a node which is built with a standard library whose
// time.Now is 15 minutes ahead (go build -overlay): there are no namespaces of
// that clock, and a static program cannot be fooled otherwise.
func TestDoctor(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: real processes")
	}
	natlab.Start(t, natlab.Config{}) // or is skipped
	binary, ahead := buildNode(t), buildAhead(t)
	cert, key := certs.New(t).Files(t, certs.Leaf{Names: []string{"node.example"}, Until: time.Now().Add(-73 * time.Hour)}) // that an operator has forgotten
	for _, c := range []struct {
		name           string
		kind           natlab.NAT
		sick           ill
		doctor         string // another program than the node's
		failed, warned []string
		says           []string
	}{
		{
			name: "a healthy node", kind: natlab.PortRestricted, sick: ill{healthy: true},
			warned: []string{"tls_none"},
			says:   []string{"The node's record is found in the DHT", "Other nodes reach its port over TCP", "TURN over UDP at port 3478 relays between two peers, and from here", "TURN over TCP", "the same port", "those of other nodes"},
		},
		{
			name: "a healthy node, from behind a symmetric NAT", kind: natlab.Symmetric, sick: ill{healthy: true},
			warned: []string{"nat_symmetric", "tls_none"},
		},
		{
			name: "a healthy node, from where UDP is blocked", kind: natlab.UDPBlocked,
			warned: []string{"tls_none", "udp_blocked"},
			says:   []string{"TURN over TCP at port 3478 relays between two peers.", "nothing is known of their ports"},
		},
		{
			name: "no UDP comes in", kind: natlab.PortRestricted,
			sick:   ill{rules: "table inet doctor {\n chain in {\n type filter hook input priority 0;\n meta l4proto udp ct state new drop\n }\n}\n"},
			warned: []string{"port_closed", "tls_none"},
			failed: []string{"dht_port_closed", "stun_no_reply", "turn_no_reply", "turn_ports_closed"},
		},
		{
			name: "the ports of relays are closed", kind: natlab.PortRestricted,
			sick:   ill{rules: "table inet doctor {\n chain in {\n type filter hook input priority 0;\n udp dport 50000-50999 drop\n }\n}\n"},
			warned: []string{"tls_none"},
			failed: []string{"turn_ports_closed"},
		},
		{
			name: "a wrong clock", kind: natlab.PortRestricted, sick: ill{program: ahead},
			failed: []string{"clock_wrong", "dht_record_missing", "record_future"},
			warned: []string{"tls_none", "turn_other_failed"},
			says:   []string{"15 minutes ahead of those of other nodes"},
		},
		{
			name: "a wrong clock of doctor's own machine", kind: natlab.PortRestricted, doctor: ahead,
			warned: []string{"clock_here_wrong", "tls_none"},
			says:   []string{"of this machine is 15 minutes ahead"},
		},
		{
			name: "an expired certificate", kind: natlab.PortRestricted, sick: ill{flags: []string{"--tls-cert", cert, "--tls-key", key}},
			failed: []string{"not_reachable", "tls_expired", "tls_untrusted", "tls_wrong_name"},
			says:   []string{"has expired 3 days ago"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := startWard(t, binary, c.kind, c.sick)
			program, scheme := binary, "http://"
			if c.doctor != "" {
				program = c.doctor
			}
			if c.sick.flags != nil {
				scheme = "https://"
			}
			d := w.settled(t, program, scheme+w.at(0), c.failed, c.warned)
			if got := d.codes("failed"); !slices.Equal(got, c.failed) || d.OK != (len(c.failed) == 0) {
				t.Errorf("failed is %v, want %v", got, c.failed)
			}
			if got := d.codes("warning"); !slices.Equal(got, c.warned) {
				t.Errorf("warnings are %v, want %v", got, c.warned)
			}
			for _, text := range c.says {
				if !d.says(text) {
					t.Errorf("nobody says %q", text)
				}
			}
			d.log(t)
		})
	}
	t.Run("public nodes", func(t *testing.T) {
		t.Parallel()
		examinePublic(t, binary)
	})
}

// settled looks again until what is new about the nodes has passed: their records
// are in the DHT, they are linked, and have tried each other's ports.
func (w *ward) settled(t *testing.T, program, url string, failed, warned []string) (d diagnosis) {
	t.Helper()
	for end := time.Now().Add(2 * patience); ; time.Sleep(time.Second) {
		d = w.examine(t, program, url)
		same := slices.Equal(d.codes("failed"), failed) && slices.Equal(d.codes("warning"), warned)
		if same && d.says("another node") && !slices.Contains(d.codes("skipped"), "reach_unknown") || time.Now().After(end) {
			return d
		}
	}
}

// examine runs doctor in the home.
func (w *ward) examine(t *testing.T, program, url string) diagnosis {
	t.Helper()
	args := append([]string{program, "doctor", "--json", "--idle", "500ms"}, w.bootstrap()...)
	return examine(t, w.home, append(args, url)...)
}

// examine runs doctor on a machine.
func examine(t *testing.T, on *natlab.Host, command ...string) (d diagnosis) {
	t.Helper()
	cmd := on.Command(t.Context(), command[0], command[1:]...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if json.Unmarshal(out.Bytes(), &d) != nil {
		t.Fatalf("%v: %s%s", err, out.String(), errs.String())
	}
	if (err == nil) != d.OK {
		t.Errorf("it ends with %v, and says that all is well: %v", err, d.OK)
	}
	return d
}

// buildAhead returns the program with a clock that is 15 minutes ahead. It takes
// a minute or two once, as all of it is built anew.
func buildAhead(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	root, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go")
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	const now = "sec, nsec, mono := runtimeNow()\n"
	if strings.Count(string(text), now) != 1 {
		t.Fatal("time.Now is another one than this test knows")
	}
	changed := filepath.Join(dir, "time.go")
	write(t, changed, []byte(strings.Replace(string(text), now, now+"\tsec += 15 * 60\n", 1)))
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{source: changed}})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "overlay.json"), overlay)
	path := filepath.Join(dir, "peerserver")
	build := exec.CommandContext(t.Context(), "go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-o", path, "github.com/peerservers/peerserver/cmd/peerserver")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return path
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
