package scan

import (
	"bytes"
	"encoding/json"
)

// Value is one member of a JSON object, as it is written there.
type Value struct {
	JSON  []byte // nil: there is none
	Times int    // how often its key is there; of several the last one counts, as in JavaScript
	at    int    // where its key begins
	end   int    // where JSON ends
}

// Is says whether the value is that string.
func (v *Value) Is(s string) bool {
	text, ok := v.Text()
	return ok && text == s
}

// Text is the string that the value is.
func (v *Value) Text() (string, bool) { return text(v.JSON) }

// Pick finds members of a JSON object by their keys, at its top only. It
// reports false when b is no JSON object in UTF-8.
func Pick(b []byte, keys []string, into []Value) bool {
	clear(into)
	return Valid(b) && PickIn(b, keys, into)
}

// PickIn is Pick in what is known to be valid JSON.
func PickIn(b []byte, keys []string, into []Value) bool {
	i := space(b, 0)
	if i == len(b) || b[i] != '{' {
		return false
	}
	for i = space(b, i+1); b[i] != '}'; i = space(b, i) {
		if b[i] == ',' {
			i = space(b, i+1)
		}
		at := i
		i = skip(b, i)
		key := b[at:i]
		i = space(b, space(b, i)+1)
		from := i
		i = skip(b, i)
		for k, name := range keys {
			if isKey(key, name) {
				into[k] = Value{JSON: b[from:i], Times: into[k].Times + 1, at: at, end: i}
			}
		}
	}
	return true
}

// Without is a copy of an object without one of its members, which Pick found
// there once.
func Without(b []byte, v *Value) []byte {
	at, end := v.at, space(b, v.end)
	if b[end] == ',' {
		end++
	} else {
		for at--; b[at] != ',' && b[at] != '{'; at-- { // it is the last one, and there is only space between
		}
		if b[at] == '{' {
			at++
		}
	}
	return append(append(make([]byte, 0, len(b)), b[:at]...), b[end:]...)
}

// Strings are those elements of a JSON list that are strings, and their JSON.
// It reports false when b is no list.
func Strings(b []byte, do func(text string, raw []byte)) bool {
	if len(b) == 0 || b[0] != '[' {
		return false
	}
	for i := space(b, 1); b[i] != ']'; i = space(b, i) {
		if b[i] == ',' {
			i = space(b, i+1)
		}
		at := i
		i = skip(b, i)
		if s, ok := text(b[at:i]); ok {
			do(s, b[at:i])
		}
	}
	return true
}

func isKey(raw []byte, name string) bool {
	if string(raw[1:len(raw)-1]) == name {
		return true
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return false
	}
	s, _ := text(raw)
	return s == name
}

// text is the string that a JSON value is.
func text(raw []byte) (string, bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return "", false
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1]), true
	}
	var s string
	err := json.Unmarshal(raw, &s)
	return s, err == nil
}

// space is where, from i on, something else follows.
func space(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r') {
		i++
	}
	return i
}

// skip is where the value that begins at i ends. The form is known to be right.
func skip(b []byte, i int) int {
	if b[i] != '"' && b[i] != '{' && b[i] != '[' {
		for i < len(b) && b[i] != ',' && b[i] != '}' && b[i] != ']' && space(b, i) == i {
			i++
		}
		return i
	}
	for depth := 0; ; i++ {
		switch b[i] {
		case '"':
			for i++; b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		if depth == 0 {
			return i + 1
		}
	}
}
