package dhtstore

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestInterop is one DHT of our nodes and of npm's bittorrent-dht nodes, on
// real sockets: what one side announces or stores the other finds.
func TestInterop(t *testing.T) {
	js := startForeign(t)
	var ours []*testServer
	for range 4 {
		conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		cfg := serverConfig{Conn: conn}
		if len(ours) > 0 {
			cfg.Bootstrap = []string{ours[0].addr.String()}
		}
		ours = append(ours, runServer(t, cfg))
	}
	var theirs []netip.AddrPort
	for range 4 {
		var r struct{ Port uint16 }
		js.do(t, &r, map[string]any{"do": "start", "bootstrap": []string{ours[0].addr.String()}})
		theirs = append(theirs, netip.AddrPortFrom(ours[0].addr.Addr(), r.Port))
	}
	eventually(t, "each node knows all others", func() string {
		for i, s := range ours {
			if n := len(s.nodes()); n != 7 {
				return fmt.Sprintf("ours %d knows %d", i, n)
			}
		}
		for i := range theirs {
			var r struct{ Count int }
			js.do(t, &r, map[string]any{"do": "count", "node": i})
			if r.Count != 7 {
				// Theirs know who has asked them, and ask nobody unless they have to.
				for j := range theirs {
					js.do(t, nil, map[string]any{"do": "lookup", "node": j, "infohash": strings.Repeat("00", 20)})
				}
				return fmt.Sprintf("theirs %d knows %d", i, r.Count)
			}
		}
		return ""
	})
	t.Run("announces", func(t *testing.T) { interopAnnounces(t, js, ours, theirs) })
	t.Run("theirs stored", func(t *testing.T) { interopTheirs(t, js, ours) })
	t.Run("ours stored", func(t *testing.T) { interopOurs(t, js, ours, theirs) })
}

func interopAnnounces(t *testing.T, js *foreigners, ours []*testServer, theirs []netip.AddrPort) {
	infohash := testItem(100, 1).target()
	local := ours[0].addr.Addr()
	js.do(t, nil, map[string]any{"do": "announce", "node": 1, "infohash": hex.EncodeToString(infohash[:]), "port": 4001})
	js.do(t, nil, map[string]any{"do": "announce", "node": 2, "infohash": hex.EncodeToString(infohash[:]), "port": 0}) // the DHT port
	for i, port := range map[int]uint16{1: 4002, 2: 0} {
		for _, n := range interopWalk(t, ours[i], infohash, ours[i].getPeers, nil) {
			if err := ours[i].announcePeer(t.Context(), n.Addr, infohash, port, n.Token); err != nil {
				t.Errorf("announce to %v: %v", n.Addr, err)
			}
		}
	}
	want := []string{netip.AddrPortFrom(local, 4001).String(), netip.AddrPortFrom(local, 4002).String(), ours[2].addr.String(), theirs[2].String()}
	slices.Sort(want)
	found := map[string]bool{}
	interopWalk(t, ours[3], infohash, ours[3].getPeers, func(r *reply) {
		for _, p := range r.Peers {
			found[p.String()] = true
		}
	})
	if got := sortedKeys(found); !slices.Equal(got, want) {
		t.Errorf("ours finds %v, want %v", got, want)
	}
	var r struct{ Peers []string }
	js.do(t, &r, map[string]any{"do": "lookup", "node": 3, "infohash": hex.EncodeToString(infohash[:])})
	slices.Sort(r.Peers)
	if !slices.Equal(r.Peers, want) {
		t.Errorf("theirs finds %v, want %v", r.Peers, want)
	}
	for i, s := range ours { // so that it is not only their own nodes that they find it on
		if n := s.stats().Infohashes; n != 1 {
			t.Errorf("ours %d holds %d infohashes", i, n)
		}
	}
}

// interopTheirs: what they put we have and find, the refresh too.
func interopTheirs(t *testing.T, js *foreigners, ours []*testServer) {
	const salt = "their salt"
	for seq := int64(1); seq <= 2; seq++ {
		it := signedItem(testKey(101), salt, seq, appendString(nil, fmt.Sprintf("their value %d", seq)))
		text, _ := stringOf(it.V)
		var r struct {
			Target string
			Count  int
		}
		js.do(t, &r, map[string]any{
			"do": "put", "node": 0, "seed": hex.EncodeToString(testKey(101).Seed()), "salt": hex.EncodeToString([]byte(salt)),
			"seq": seq, "v": hex.EncodeToString(text),
		})
		target := it.target()
		if r.Target != hex.EncodeToString(target[:]) || r.Count != 7 {
			t.Errorf("seq %d: stored at %d nodes under %s", seq, r.Count, r.Target)
		}
		for i, s := range ours {
			to := ours[(i+1)%len(ours)]
			got, err := s.get(t.Context(), to.addr, target, 0)
			if err != nil || !sameItem(got.Item, it) {
				t.Errorf("seq %d: at ours: %+v, %v", seq, got, err)
			}
		}
		hits := 0
		interopWalk(t, ours[1], target, func(ctx context.Context, addr netip.AddrPort, target [20]byte) (*reply, error) {
			return ours[1].get(ctx, addr, target, seq-1)
		}, func(r *reply) {
			if sameItem(r.Item, it) {
				hits++
			}
		})
		if hits != 7 { // all but the one that put it
			t.Errorf("seq %d: found at %d nodes", seq, hits)
		}
	}
}

// interopOurs: what we put they have and find. A refresh has to have a higher
// sequence.
func interopOurs(t *testing.T, js *foreigners, ours []*testServer, theirs []netip.AddrPort) {
	const salt = "our salt"
	put := func(it *item) (codes map[int]int) {
		codes = map[int]int{}
		for _, n := range interopWalk(t, ours[2], it.target(), getAny(ours[2]), nil) {
			var refused refusal
			switch err := ours[2].put(t.Context(), n.Addr, it, n.Token); {
			case err == nil:
				codes[0]++
			case errors.As(err, &refused):
				codes[refused.Code]++
			default:
				t.Error(err)
			}
		}
		return codes
	}
	seq := time.Now().UnixMilli() // as records have it
	for i := range int64(2) {
		it := signedItem(testKey(102), salt, seq+i, appendString(nil, fmt.Sprintf("our value %d", i)))
		target := it.target()
		if codes := put(it); codes[0] != 8 {
			t.Errorf("put %d: answers %v", i, codes)
		}
		for _, addr := range theirs {
			if r, err := ours[0].get(t.Context(), addr, target, 0); err != nil || !sameItem(r.Item, it) {
				t.Errorf("put %d: theirs has %+v, %v", i, r, err)
			}
		}
		var r struct {
			V, K string
			Seq  int64
		}
		js.do(t, &r, map[string]any{
			"do": "get", "node": 3, "target": hex.EncodeToString(target[:]), "salt": hex.EncodeToString([]byte(salt)),
		})
		text, _ := stringOf(it.V)
		if r.V != hex.EncodeToString(text) || r.K != hex.EncodeToString(it.Key[:]) || r.Seq != it.Seq {
			t.Errorf("put %d: theirs finds %+v", i, r)
		}
	}
	same := signedItem(testKey(102), salt, seq+1, appendString(nil, "our value 1"))
	if codes := put(same); codes[0] != 4 || codes[errSeq] != 4 {
		t.Errorf("a refresh with the same sequence: %v; ours take it, theirs do not", codes)
	}
}

func getAny(s *testServer) func(context.Context, netip.AddrPort, [20]byte) (*reply, error) {
	return func(ctx context.Context, addr netip.AddrPort, target [20]byte) (*reply, error) {
		return s.get(ctx, addr, target, 0)
	}
}

// interopWalk walks over all 8 nodes, the one that asks among them, and has see
// look at each reply.
func interopWalk(
	t *testing.T, s *testServer, target [20]byte, ask func(context.Context, netip.AddrPort, [20]byte) (*reply, error), see func(*reply),
) []step {
	t.Helper()
	var mu sync.Mutex
	closest, stats := s.traverse(t.Context(), walk{target: target, do: func(ctx context.Context, addr netip.AddrPort) (*reply, error) {
		r, err := ask(ctx, addr, target)
		if err == nil && see != nil {
			mu.Lock()
			defer mu.Unlock()
			see(r)
		}
		return r, err
	}})
	if len(closest) != 8 {
		t.Errorf("a walk meets %d nodes: %+v", len(closest), stats)
	}
	return closest
}

func sameItem(got, want *item) bool {
	return got != nil && got.Key == want.Key && got.Seq == want.Seq && string(got.V) == string(want.V) &&
		ed25519.Verify(got.Key[:], (&item{Salt: want.Salt, Seq: got.Seq, V: got.V}).signedBytes(), got.Sig[:])
}

// foreigners is the process with their nodes.
type foreigners struct {
	mu  sync.Mutex
	in  io.Writer
	out *bufio.Reader
}

// startForeign skips the test where the process cannot be had, but not with
// CI=true.
func startForeign(t *testing.T) *foreigners {
	t.Helper()
	lack := t.Skipf
	if os.Getenv("CI") == "true" {
		lack = t.Fatalf
	}
	node, err := exec.LookPath("node")
	if err != nil {
		lack("needs Node.js 20: %v", err)
	}
	if _, err := os.Stat(filepath.Join("interop", "node_modules", "bittorrent-dht")); err != nil {
		lack("needs npm packages, which scripts/install.sh npm installs: %v", err)
	}
	cmd := exec.CommandContext(t.Context(), node, "nodes.mjs")
	cmd.Dir, cmd.Stderr = "interop", os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		lack("Node.js does not start: %v", err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	return &foreigners{in: in, out: bufio.NewReader(out)}
}

// do sends a command and reads its answer into r.
func (f *foreigners) do(t *testing.T, r any, command map[string]any) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	line, err := json.Marshal(command)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.in.Write(append(line, '\n')); err != nil {
		t.Fatal(err)
	}
	answer, err := f.out.ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var failed struct{ Error string }
	if err := json.Unmarshal(answer, &failed); err != nil || failed.Error != "" {
		t.Fatalf("%v: %s", command["do"], answer)
	}
	if r != nil {
		if err := json.Unmarshal(answer, r); err != nil {
			t.Fatal(err)
		}
	}
}

// eventually waits until problem says nothing any more.
func eventually(t *testing.T, what string, problem func() string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		p := problem()
		if p == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within a minute: %s", what, p)
		}
	}
}

func sortedKeys(m map[string]bool) (keys []string) {
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
