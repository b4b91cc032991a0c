package scan

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"testing"
	"unicode/utf8"
)

var some = []string{"type", "topic", "", "é"}

func TestPick(t *testing.T) {
	for in, want := range map[string][]string{
		`{}`:           {"", "", "", ""},
		`{"type":"a"}`: {`"a"`, "", "", ""},
		" {\n\"type\" :\t1 , \"x\":{\"topic\":2},\"topic\":[ ] }\r": {"1", "[ ]", "", ""},
		`{"type":1,"topic":"}","type":-2.5e3}`:                      {"-2.5e3", `"}"`, "", ""},
		`{"\u0074ype":"\"{[","t\\ype":2,"":true,"\u00e9":null}`:     {`"\"{["`, "", "true", "null"},
		`{"x":[{"a":"]}"},"\\"],"topic":{"b":[1,{"c":"\\\""}]}}`:    {"", `{"b":[1,{"c":"\\\""}]}`, "", ""},
	} {
		var v [4]Value
		if !Pick([]byte(in), some, v[:]) {
			t.Errorf("%s: not taken", in)
			continue
		}
		for i := range v {
			if string(v[i].JSON) != want[i] || (v[i].Times > 0) != (want[i] != "") {
				t.Errorf("%s: %q is %s", in, some[i], v[i].JSON)
			}
		}
	}
	for _, in := range []string{"", " ", "null", "7", `"type"`, "[]", `{"type":}`, `{"type":1`, `{"type":1}}`, "{\"type\":\"\xff\"}", "\xef\xbb\xbf{}", `{'type':1}`, `{"type":1,}`} {
		var v [4]Value
		if Pick([]byte(in), some, v[:]) {
			t.Errorf("%q: taken", in)
		}
	}
}

func TestWithout(t *testing.T) {
	for in, want := range map[string]string{
		`{"type":1}`:                       `{}`,
		`{ "type" : 1 }`:                   `{}`,
		`{"type":1,"a":2}`:                 `{"a":2}`,
		`{"a":2,"type":1}`:                 `{"a":2}`,
		`{"a":2 , "type" : [1,2] , "b":3}`: `{"a":2 ,  "b":3}`,
		"{\"a\":2 ,\n\"type\":\"}\" }":     `{"a":2 }`,
	} {
		var v [1]Value
		if !Pick([]byte(in), some[:1], v[:]) {
			t.Fatal(in)
		}
		if got := Without([]byte(in), &v[0]); string(got) != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func TestStrings(t *testing.T) {
	var got []string
	if !Strings([]byte(`[ "a" , 1,null,["b"],{"c":"d"}, "\u0065" ,"]"]`), func(text string, raw []byte) { got = append(got, text+string(raw)) }) {
		t.Fatal("no list")
	}
	if want := []string{`a"a"`, `e"\u0065"`, `]"]"`}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	for _, in := range []string{"", "null", `"[]"`, "{}", "1"} {
		if Strings([]byte(in), func(string, []byte) { t.Error(in) }) {
			t.Errorf("%s is a list", in)
		}
	}
}

// FuzzPick compares with encoding/json, and takes out what it found.
func FuzzPick(f *testing.F) {
	for _, in := range []string{
		`{"type":"publish","topic":"room","data":{"type":"announce","from":"x"}}`, `{"type":[1,"]"],"type":{}}`, ` {"\u0074ype" : "\\" , "é":-0.1e+5 } `,
		`{"type":1`, "[]", `{"":""}`, `{"topic":"\ud800"}`,
	} {
		f.Add([]byte(in))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var v [4]Value
		var m map[string]json.RawMessage
		want := utf8.Valid(b) && json.Unmarshal(b, &m) == nil && m != nil
		if got := Pick(b, some, v[:]); got != want {
			t.Fatalf("taken: %v, want %v", got, want)
		}
		if !want {
			return
		}
		for i, key := range some {
			if !bytes.Equal(v[i].JSON, m[key]) {
				t.Fatalf("%q is %s, want %s", key, v[i].JSON, m[key])
			}
			if v[i].Times != 1 {
				continue
			}
			var left map[string]json.RawMessage
			if err := json.Unmarshal(Without(b, &v[i]), &left); err != nil {
				t.Fatalf("without %q: %v", key, err)
			}
			rest := maps.Clone(m)
			delete(rest, key)
			if !maps.EqualFunc(left, rest, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }) {
				t.Fatalf("without %q: %s", key, Without(b, &v[i]))
			}
		}
		if list := v[0].JSON; len(list) > 0 {
			var all []any
			var texts, got []string
			isList := list[0] == '[' && json.Unmarshal(list, &all) == nil
			for _, one := range all {
				if s, ok := one.(string); ok {
					texts = append(texts, s)
				}
			}
			if Strings(list, func(s string, _ []byte) { got = append(got, s) }) != isList || !slices.Equal(got, texts) {
				t.Fatalf("the strings of %s are %q", list, got)
			}
		}
	})
}
