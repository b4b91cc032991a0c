package tracker

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"

	"github.com/peerservers/peerserver/node/door/scan"
)

// parse is what quick must agree with: it splits a message with encoding/json,
// and decides on all that quick gives up on.
func parse(b []byte, f *fields) bool {
	f.reset()
	// encoding/json would repair it, and one client's bad bytes in another's
	// text frame end that one's connection.
	if !utf8.Valid(b) {
		return false
	}
	// A map: keys are compared exactly and the last of two wins, as in
	// JavaScript.
	var m map[string]json.RawMessage
	if json.Unmarshal(b, &m) != nil || m == nil {
		return false
	}
	for key, v := range m {
		if slot := f.slot(key); slot != nil {
			*slot = v
		}
	}
	offers := m["offers"]
	if len(offers) == 0 || offers[0] != '[' {
		return true
	}
	f.list = true
	var list []json.RawMessage
	if json.Unmarshal(offers, &list) != nil {
		return false
	}
	for _, v := range list {
		var o map[string]json.RawMessage
		if v[0] != '{' || json.Unmarshal(v, &o) != nil {
			f.bad = true
			return true
		}
		f.add(rawOffer{o["offer_id"], o["offer"]})
	}
	return true
}

// split finds the fields of a message.
func split(b []byte, f *fields) bool { return quick(b, f) || parse(b, f) }

// falsy is JavaScript's idea of a JSON value: absent, null, false, 0 or "".
func falsy(v []byte) bool {
	switch {
	case len(v) == 0, bytes.Equal(v, null), bytes.Equal(v, []byte("false")), bytes.Equal(v, []byte(`""`)):
		return true
	}
	return isZero(v)
}

var null = []byte("null")

// isZero says whether a JSON value is a number that is zero.
func isZero(v []byte) bool {
	if len(v) == 0 || (v[0] != '-' && v[0] != '0') {
		return false
	}
	for _, c := range v {
		switch {
		case c == 'e' || c == 'E':
			return true
		case '1' <= c && c <= '9':
			return false
		}
	}
	return true
}

// text is the string that a JSON value is.
func text(v []byte) (string, bool) {
	if len(v) < 2 || v[0] != '"' {
		return "", false
	}
	if inner := v[1 : len(v)-1]; scan.Plain(inner, 0) == len(inner) {
		return string(inner), true
	}
	var s string
	err := json.Unmarshal(v, &s)
	return s, err == nil
}
