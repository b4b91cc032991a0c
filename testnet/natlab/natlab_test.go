//go:build linux

package natlab_test

import (
	"encoding/json"
	"flag"
	"testing"
	"time"

	"github.com/peerservers/peerserver/testnet/natlab"
)

// patience is far more than anything here takes.
const patience = time.Minute

func TestMain(m *testing.M) {
	// What runs here waits far more than it works. A -parallel of the command line counts.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	natlab.Main(m, natlab.Programs{
		"stun":  stunServer,
		"probe": probe,
		"watch": watch,
		"flood": flood,
		"peer":  memberProgram,
		"dht":   dhtNodes,
		"plain": plainHTTP,
	})
}

// await waits for a line of JSON that is as wanted.
func await[T any](t *testing.T, p *natlab.Process, within time.Duration, what string, ok func(T) bool) (found T) {
	t.Helper()
	p.Await(within, what, func(line string) bool {
		var v T
		if json.Unmarshal([]byte(line), &v) != nil || !ok(v) {
			return false
		}
		found = v
		return true
	})
	return found
}

// anything is the next line that there is.
func anything[T any](T) bool { return true }

func parse[T any](t *testing.T, line string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(line), &v); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	return v
}
