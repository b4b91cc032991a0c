package peer

import (
	"errors"
	"strings"
	"testing"

	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/testnet"
)

func TestParseNode(t *testing.T) {
	for s, want := range map[string][2]string{
		"wss://a.example":                 {"wss://a.example"},
		"wss://a.example/":                {"wss://a.example"},
		"ws://127.0.0.1:8787":             {"ws://127.0.0.1:8787"},
		"wss://a.example?token=xyz":       {"wss://a.example", "xyz"},
		"wss://a.example/?token=x%2By":    {"wss://a.example", "x+y"},
		"wss://a.example:444/?token=":     {"wss://a.example:444"},
		"wss://a.example/t/xyz":           {"wss://a.example", "xyz"},
		"wss://a.example/t/xyz/":          {"wss://a.example", "xyz"},
		"ws://[::1]:8787/t/x.y":           {"ws://[::1]:8787", "x.y"},
		"wss://a.example/t/":              {},
		"wss://a.example/t/xyz/v1":        {},
		"wss://a.example/t/xyz?token=xyz": {},
		"wss://a.example/v1":              {},
		"wss://a.example/?key=xyz":        {},
		"wss://a.example/?token=xyz&a=b":  {},
		"wss://a.example/?token=xyz#a":    {},
		"wss://me:xyz@a.example":          {},
		"https://a.example/?token=xyz":    {},
		"wss://a.example/?token=xyz%zz":   {},
		"/?token=xyz":                     {},
		"":                                {},
	} {
		base, token, err := parseNode(s)
		if base != want[0] || token != want[1] || (err == nil) != (base != "") {
			t.Errorf("%q is %q with %q, %v; want %q", s, base, token, err, want)
		}
		if err != nil && !strings.Contains(s, "@") && strings.Contains(err.Error(), "xyz") {
			t.Errorf("%q: the error has the token: %v", s, err)
		}
	}
}

// A private node lets in who has a token in its URL. Nobody else is told of it:
// it is in no address, no error and no URL that the room names.
func TestPrivateNode(t *testing.T) {
	const token = "a-token-of-tests-0123"
	nodes := testnet.StartWith(t, testnet.Options{Nodes: 1, Tokens: []string{token}})
	a := join(t, "alice", Options{Nodes: []string{nodes.URL(0) + "/?token=" + token}})
	b := join(t, "bob", Options{Nodes: []string{nodes.URL(0) + "/t/" + token}})
	a.sees("+bob")
	b.sees("+alice")
	if got := a.Node(); got != nodes.URL(0) {
		t.Errorf("it is on %q", got)
	}
	for _, u := range []string{nodes.URL(0), nodes.URL(0) + "?token=" + token + "x"} {
		r, err := Join(t.Context(), "test", Options{Nodes: []string{u}})
		if err == nil {
			r.Leave(t.Context())
		}
		var e *protocol.Error
		if !errors.As(err, &e) || e.Code != protocol.CodeDenied || !strings.Contains(e.Text, "this node is private") || strings.Contains(err.Error(), token) {
			t.Errorf("without a token: %v", err)
		}
	}
}
