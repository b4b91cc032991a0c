package node

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/node/door/native"
	"github.com/peerservers/peerserver/node/door/tracker"
	"github.com/peerservers/peerserver/protocol"
)

// tokenPath is what a path begins with that has a token: /t/TOKEN/...
const tokenPath = "/t/"

// A token is written into URLs as it is, and nobody is to guess it.
const (
	minToken   = 16
	maxToken   = 128
	tokenChars = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~"
)

// checkAccess checks who may come. No error repeats a token.
func (c *Config) checkAccess() error {
	for i, token := range c.Tokens {
		if len(token) < minToken || len(token) > maxToken || strings.Trim(token, tokenChars) != "" {
			return fmt.Errorf("token %d is not of %d to %d letters, digits, - _ . and ~; \"openssl rand -hex 16\" makes one", i+1, minToken, maxToken)
		}
	}
	for _, app := range c.Apps {
		if _, err := parseApp(app); err != nil {
			return err
		}
		if name, _, _ := strings.Cut(app, ":"); !c.has(name) {
			return fmt.Errorf("--app %s: the door %s is off by --without", app, name)
		}
	}
	return nil
}

// parseApp reads an app as an operator lists it, DOOR:NAME. The tracker's names
// are infohashes; the native door's may be an AppID, which stands for a name
// with its secret.
func parseApp(s string) (protocol.AppID, error) {
	at, name, ok := strings.Cut(s, ":")
	if !ok || name == "" {
		return protocol.AppID{}, fmt.Errorf("--app %q is not of the form DOOR:NAME, such as %s:my-key", s, "peerjs")
	}
	if err := checkDoor(at, "app"); err != nil {
		return protocol.AppID{}, err
	}
	raw, err := hex.DecodeString(name)
	isHash := err == nil && len(raw) == len(protocol.AppID{})
	switch {
	case at == native.Name && isHash:
		return protocol.AppID(raw), nil
	case at == tracker.Name && isHash:
		name = string(raw)
	case at == tracker.Name && len(name) != len(protocol.AppID{}):
		return protocol.AppID{}, fmt.Errorf("--app %s: %q is no infohash: 40 hex digits or 20 characters", s, name)
	}
	return protocol.App(at, []byte(name), nil), nil
}

// allows is for relay.Config: nil where every app may be served.
func (c *Config) allows() func(protocol.AppID) bool {
	if len(c.Apps) == 0 {
		return nil
	}
	listed := make(map[protocol.AppID]struct{}, len(c.Apps))
	for _, s := range c.Apps {
		if app, err := parseApp(s); err == nil { // checkAccess has looked
			listed[app] = struct{}{}
		}
	}
	return func(app protocol.AppID) bool {
		_, ok := listed[app]
		return ok
	}
}

// withoutToken takes the token off a request's path, so that all paths are
// reached by /t/TOKEN/... as well. It does so on a node that asks for none too:
// URLs that have one stay as they are when the node is opened to all.
func withoutToken(q *http.Request) *http.Request {
	rest, ok := strings.CutPrefix(q.URL.Path, tokenPath)
	if !ok {
		return q
	}
	token, path, _ := strings.Cut(rest, "/")
	q = door.WithToken(q, token)
	u := *q.URL
	u.Path, u.RawPath = "/"+path, ""
	if raw, ok := strings.CutPrefix(q.URL.RawPath, tokenPath); ok {
		_, raw, _ = strings.Cut(raw, "/")
		u.RawPath = "/" + raw
	}
	q.URL = &u
	q.RequestURI = (&url.URL{Path: u.Path, RawPath: u.RawPath, RawQuery: u.RawQuery}).RequestURI()
	return q
}

// denied says why a plain request may not have what it asks for, "" if it may.
// What shows nothing of the node's apps and clients is for everybody.
func (n *Node) denied(q *http.Request) string {
	switch path := q.URL.Path; {
	case path == "/", path == "/health", path == wellKnown, path == "/sdk.js", path == "/sdk-plain.js", strings.HasPrefix(path, "/page/"):
		return ""
	}
	var token string
	for _, d := range n.doors {
		if k, ok := d.(door.Keyed); ok {
			key, anybody := k.Key(q)
			if anybody {
				return ""
			}
			if key != "" {
				token = key
			}
		}
	}
	return n.host.Denied(q, token)
}
