package main

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // an infohash is SHA-1
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"
	"time"

	nets "github.com/peerservers/peerserver/testnet"
)

// TestLookup finds the one node of three that has a peer of the app.
func TestLookup(t *testing.T) {
	net := nets.Start(t, 3)
	net.Join("alice", 1)
	hash := sha1.Sum([]byte("testnet")) //nolint:gosec // an infohash is SHA-1
	at := strings.TrimPrefix(net.HTTP(0), "http://")
	var answer struct {
		Nodes []struct {
			URLs []string `json:"urls"`
		} `json:"nodes"`
		Lookup struct {
			Queries int `json:"queries"`
		} `json:"lookup"`
	}
	// The node announces when its first peer comes; that takes a moment.
	for deadline := time.Now().Add(30 * time.Second); len(answer.Nodes) == 0; {
		if time.Now().After(deadline) {
			t.Fatal("nothing is found")
		}
		var out, errs bytes.Buffer
		args := []string{"lookup", "--json", "--private", "--bootstrap", at, hex.EncodeToString(hash[:])}
		if code := run(t.Context(), args, streams{strings.NewReader(""), &out, &errs}); code != 0 {
			t.Fatalf("exit status %d: %s", code, errs.String())
		}
		if err := json.Unmarshal(out.Bytes(), &answer); err != nil {
			t.Fatalf("%v in %q", err, out.String())
		}
	}
	if len(answer.Nodes) != 1 || len(answer.Nodes[0].URLs) != 1 || answer.Nodes[0].URLs[0] != net.URL(1) {
		t.Errorf("found %+v, want only the node at %s", answer.Nodes, net.URL(1))
	}
	if answer.Lookup.Queries == 0 {
		t.Error("it asked nobody")
	}
}

// TestLookupServers: the ports of a node are said with what they are for.
func TestLookupServers(t *testing.T) {
	for want, n := range map[string]foundNode{
		"no STUN":   {},
		"STUN 3478": {STUN: 3478},
		"STUN 3478, TURN 3479, TURN over TLS 5349, TURN over TLS 443": {STUN: 3478, TURN: 3479, TURNTLS: []uint16{5349, 443}},
	} {
		if got := n.servers(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestLookupSaysWhatIsWrong: each error says what to do.
func TestLookupSaysWhatIsWrong(t *testing.T) {
	for _, c := range []struct{ args, says string }{
		{"", "40 hex digits"},
		{"short", "--door"},
		{"--private --timeout 2s --bootstrap 127.0.0.1:1 " + strings.Repeat("ab", 20), "--bootstrap"},
	} {
		var out, errs bytes.Buffer
		args := append([]string{"lookup"}, strings.Fields(c.args)...)
		if code := run(t.Context(), args, streams{strings.NewReader(""), &out, &errs}); code == 0 || !strings.Contains(errs.String(), c.says) {
			t.Errorf("lookup %s: exit status %d and %q, want an error with %q", c.args, code, errs.String(), c.says)
		}
	}
}
