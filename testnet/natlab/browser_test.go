//go:build linux

package natlab_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/peerservers/peerserver/testnet/natlab"
)

// atOnce is how many cells with browsers run at a time: each browser is some
// hundred megabytes, and busy while it starts.
const atOnce = 2

// TestBrowsers has Chromium meet Chromium and Go, both from homes of one kind. A
// cover has each at one of the delays.
func TestBrowsers(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: real processes")
	}
	natlab.Start(t, natlab.Config{}) // or is skipped
	chromium, binary := findChromium(t), buildNode(t)
	full := os.Getenv(envFull) != ""
	slots := make(chan struct{}, atOnce)
	all := make(map[string]*results)
	others := []string{"Chromium", "Go"}
	for _, other := range others {
		all[other] = &results{all: make(map[cell]outcome)}
	}
	for d, delay := range delays {
		t.Run(delay.String(), func(t *testing.T) {
			m := startMesh(t, binary, natlab.Config{Delay: delay}, "--turn")
			left, right := m.homes("a"), m.homes("b")
			for i, kind := range natlab.Kinds() {
				for k, other := range others {
					if !full && (i+k)%len(delays) != d {
						continue
					}
					c := cell{kind, kind, delay, true}
					t.Run(fmt.Sprintf("%s, Chromium and %s", kind, other), func(t *testing.T) {
						t.Parallel()
						slots <- struct{}{}
						defer func() { <-slots }()
						all[other].add(c, outcome{path: "failed", failed: true}) // until it is known better
						app := fmt.Sprint(c, other)
						a := m.openTab(t, left[kind], 0, app, chromium)
						var b *natlab.Process
						if other == "Go" {
							b = m.join(t, right[kind], 1, app)
						} else {
							b = m.openTab(t, right[kind], 1, app, chromium)
						}
						all[other].add(c, c.settle(t, a, b))
						a.Stop() // before another one has the slot
						b.Stop()
					})
				}
			}
		})
	}
	if err := writeTable("browsers", diagonal(all["Chromium"], all["Go"])); err != nil {
		t.Fatal(err)
	}
}

// findChromium is the path of the browser. Where what a tab needs is not there the
// test is skipped.
func findChromium(t *testing.T) string {
	t.Helper()
	var missing []string
	name := os.Getenv("E2E_CHROMIUM")
	if name == "" {
		name = "chromium"
	}
	chromium, err := exec.LookPath(name)
	if err != nil {
		missing = append(missing, "Chromium; scripts/install.sh system installs it, or E2E_CHROMIUM=/path/to/it names one")
	}
	if _, err := exec.LookPath("node"); err != nil {
		missing = append(missing, "Node.js")
	}
	if _, err := os.Stat("../e2e/node_modules/playwright-core"); err != nil {
		missing = append(missing, "npm packages; scripts/install.sh npm installs them")
	}
	if len(missing) > 0 {
		t.Skip("tabs need " + strings.Join(missing, ", "))
	}
	return chromium
}

// openTab starts a tab on a machine, which joins on node i.
func (m *mesh) openTab(t *testing.T, h *natlab.Host, i int, app, chromium string) *natlab.Process {
	t.Helper()
	return h.Start(t, "env", "E2E_CHROMIUM="+chromium, "node", "tab.mjs", m.urls[i], app)
}
