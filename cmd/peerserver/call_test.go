package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"github.com/peerservers/peerserver/peer"
	"github.com/peerservers/peerserver/protocol"
	nets "github.com/peerservers/peerserver/testnet"
)

// machine is a peer with commands of its own, whose id begins with a "y".
func machine(t *testing.T, node, name string) *peer.Room {
	t.Helper()
	var setting webrtc.SettingEngine
	setting.SetIncludeLoopbackCandidate(true)
	var key ed25519.PrivateKey
	for id := ""; !strings.HasPrefix(id, "y"); id = protocol.PeerID(key.Public().(ed25519.PublicKey)).String() {
		_, key, _ = ed25519.GenerateKey(nil)
	}
	room, err := peer.Join(t.Context(), "shop", peer.Options{Nodes: []string{node}, Identity: key, Name: name, API: webrtc.NewAPI(webrtc.WithSettingEngine(setting))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { room.Leave(context.Background()) })
	if _, err := room.HandleModule("m", map[string]peer.Handler{
		"name": func(context.Context, *peer.Request) (any, error) { return name, nil },
		"none": func(context.Context, *peer.Request) (any, error) { return nil, nil },
		"raw":  func(context.Context, *peer.Request) (any, error) { return []byte{0, 255}, nil },
		"add": func(_ context.Context, q *peer.Request) (any, error) {
			var of []int
			if err := q.Args.Decode(&of); err != nil {
				return nil, err
			}
			sum := 0
			for _, n := range of {
				sum += n
				if err := q.Progress(map[string]int{"sum": sum}); err != nil {
					return nil, err
				}
			}
			return sum, nil
		},
		"count": func(_ context.Context, q *peer.Request) (any, error) {
			for i := range 3 {
				if err := q.Send(i); err != nil {
					return nil, err
				}
			}
			return nil, nil
		},
		"wait": func(ctx context.Context, _ *peer.Request) (any, error) { <-ctx.Done(); return nil, ctx.Err() },
		"jam": func(context.Context, *peer.Request) (any, error) {
			if name == "Bob" {
				return "fine", nil
			}
			return nil, &peer.RemoteError{Code: "jam", Text: "paper\x1b[2J", Data: peer.Value{JSON: []byte("[3]")}}
		},
	}); err != nil {
		t.Fatal(err)
	}
	return room
}

// calls runs the command against a node.
func calls(t *testing.T, node, in string, args ...string) (out, errs string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
	defer cancel()
	var o, e bytes.Buffer
	code = run(ctx, append([]string{"call", "--loopback", "--wait", "50s", "--node", node}, args...), streams{strings.NewReader(in), &o, &e})
	return o.String(), e.String(), code
}

// TestCall: what is printed, where, and what the exit status is.
func TestCall(t *testing.T) {
	net := nets.Start(t, 2)
	ada, bob := machine(t, net.URL(0), "Ada"), machine(t, net.URL(1), "Bob")
	adaIs, bobIs := fmt.Sprintf("Ada (%s)", ada.ID().Short()), fmt.Sprintf("Bob (%s)", bob.ID().Short())
	for _, c := range []struct {
		args, in  string
		out, errs string // lines, in any order
		code      int
	}{
		{args: ada.ID().String() + " m.name", out: `"Ada"`},
		{args: bob.ID().String()[:20] + " m.none"},
		{args: "name:Bob m.raw", out: "\x00\xff"},
		{args: "name:Bob m.add [1,2]", out: "3", errs: `... {"sum":1}|... {"sum":3}`},
		{args: "name:Ada __echo__ -", in: "{\n  \"a  b\": 1 }", out: `{"a  b":1}`},
		{args: "* m.name", out: adaIs + `: "Ada"|` + bobIs + `: "Bob"`},
		{args: "* m.none", out: adaIs + ": done|" + bobIs + ": done"},
		{args: "* m.raw", out: adaIs + ": 2 bytes; --json shows them|" + bobIs + ": 2 bytes; --json shows them"},
		{args: "* m.jam", out: bobIs + `: "fine"`, errs: adaIs + ": jam: paper\ufffd[2J|peerserver call: 1 of 2 calls have failed", code: 1},
		{args: "--stream name:Ada m.count", out: "0|1|2"},
		{args: "--timeout 50ms name:Ada m.wait", errs: "timeout: peer: call m.wait: context deadline exceeded|peerserver call: 1 of 1 calls have failed", code: 1},
		{args: "name:Ada m.nobody", errs: "unknown_command: there is no command m.nobody; __list_commands__ tells which there are|peerserver call: 1 of 1 calls have failed", code: 1},
		{args: "y m.name", errs: fmt.Sprintf("peerserver call: y begins the ids of %s; give more of it", strings.Replace(inOrder(ada, bob, adaIs, bobIs), ",", " and of", 1)), code: 1},
	} {
		args := strings.Fields(c.args)
		i := slices.IndexFunc(args, func(a string) bool { return strings.HasPrefix(a, "name:") || a == "*" || a == "y" || len(a) >= 20 })
		out, errs, code := calls(t, net.URL(0), c.in, slices.Insert(args, i, "shop")...)
		if code != c.code || sorted(out) != sorted(strings.ReplaceAll(c.out, "|", "\n")) || sorted(errs) != sorted(strings.ReplaceAll(c.errs, "|", "\n")) {
			t.Errorf("call %s: exit status %d\n%s\n%s\nwant %d\n%s\n%s", c.args, code, out, errs, c.code, c.out, c.errs)
		}
	}
	others := slices.DeleteFunc(ada.Peers(), func(p *peer.Peer) bool { return p.ID() != bob.ID() }) // a caller may just be leaving
	want := "after 1s there is no name:Eve among the 1 who are here: " + bobIs
	if err := target("name:Eve").nobody(others, time.Second); err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// inOrder are two peers as a room lists them.
func inOrder(a, b *peer.Room, nameA, nameB string) string {
	if one, two := a.ID(), b.ID(); bytes.Compare(one[:], two[:]) > 0 {
		nameA, nameB = nameB, nameA
	}
	return nameA + ", " + nameB
}

func sorted(lines string) string {
	all := strings.Split(strings.TrimSuffix(lines, "\n"), "\n")
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// TestCallJSON: a line for each thing that happens, and the last of each peer
// says so.
func TestCallJSON(t *testing.T) {
	net := nets.Start(t, 1)
	ada := machine(t, net.URL(0), "Ada")
	machine(t, net.URL(0), "Bob")
	session := ada.Session()
	for _, c := range []struct {
		args string
		want []string // of Ada
		code int
	}{
		{"* m.add [1,2]", []string{`"progress":true,"value":{"sum":1}`, `"progress":true,"value":{"sum":3}`, `"value":3,"done":true`}, 0},
		{"* m.raw", []string{`"bytes":"` + base64.StdEncoding.EncodeToString([]byte{0, 255}) + `","done":true`}, 0},
		{"* m.none", []string{`"done":true`}, 0},
		{"* m.jam", []string{`"error":{"code":"jam","text":"paper\u001b[2J","data":[3]},"done":true`}, 1},
		{"--stream * m.count", []string{`"value":0`, `"value":1`, `"value":2`, `"done":true`}, 0},
		{"--timeout 50ms * m.wait", []string{`"error":{"code":"timeout","text":"peer: call m.wait: context deadline exceeded"},"done":true`}, 1},
	} {
		args := strings.Fields("--json " + c.args)
		out, errs, code := calls(t, net.URL(0), "", slices.Insert(args, slices.Index(args, "*"), "shop")...)
		head := fmt.Sprintf(`{"peer":"%s","session":"%x","name":"Ada",`, ada.ID(), session[:])
		var got []string
		others := 0
		for line := range strings.Lines(out) {
			if !json.Valid([]byte(line)) {
				t.Errorf("%q is no JSON", line)
			}
			if rest, ok := strings.CutPrefix(strings.TrimSpace(line), head); ok {
				got = append(got, strings.TrimSuffix(rest, "}"))
			} else {
				others++
			}
		}
		if !slices.Equal(got, c.want) || others == 0 || code != c.code {
			t.Errorf("%s: exit status %d, %q and %d lines of Bob, want %d, %q; %s", c.args, code, got, others, c.code, c.want, errs)
		}
	}
}

// TestCallSaysWhatIsWrong, before it joins where it can.
func TestCallSaysWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		args []string
		says string
	}{
		{nil, "name an app, whom to call"},
		{[]string{"chess", "*"}, "name an app, whom to call"},
		{[]string{"chess", "*", "move", "e4"}, "not JSON"},
		{[]string{"--node", "ws://127.0.0.1:1", "chess", "*", "move"}, "127.0.0.1:1"},
	} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), append([]string{"call"}, c.args...), streams{strings.NewReader(""), &out, &errs}); code != 1 || !strings.Contains(errs.String(), c.says) {
			t.Errorf("call %q: exit status %d and %q, want an error with %q", c.args, code, errs.String(), c.says)
		}
	}
	net := nets.Start(t, 1)
	if _, errs, code := calls(t, net.URL(0), "", "--wait", "100ms", "shop", "*", "m.name"); code != 1 || !strings.Contains(errs, "nobody is here after 100ms") {
		t.Errorf("exit status %d and %q", code, errs)
	}
}
