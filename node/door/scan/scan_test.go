package scan

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestPlain(t *testing.T) {
	for c := range 256 {
		want := c < 0x20 || c == '"' || c == '\\' || c >= 0x80
		for length := range 20 {
			for at := range length {
				b := bytes.Repeat([]byte{'a'}, length)
				b[at] = byte(c)
				i := Plain(b, 0)
				if want && i != at || !want && i != length {
					t.Fatalf("plain of %q is %d", b, i)
				}
			}
		}
	}
}

var texts = []string{
	`{"a":-0.5e+10,"b":[1,2,{"c":true}],"d":false}`, ` [ ] `, `"x"`, `1`, `null`, ` true`, `-0`, `{"a":{}}`,
	`{"a":01}`, `{"a":1.}`, `{"a":-}`, `{"a":1e}`, `.5`, `+1`, `0x1`, `NaN`, `tru`, `nul`, `truex`,
	`{"a":"\x"}`, `{"a":"\u12"}`, `{"a":"\ud800"}`, "\"\x01\"", "\"\xff\"", "\"\xc0\x80\"", "\"\xed\xa0\x80\"", `"é日😀"`,
	`{`, `{}`, `[]`, ``, ` `, `{"a"}`, `{"a":}`, `{"a":1,}`, `{,}`, `{"a":1}x`, `{"a":1}}`, `{"a":[1,]}`, `[1}`, `{1:2}`, `[[1}]`,
	strings.Repeat("[", 64) + strings.Repeat("]", 64), strings.Repeat("[", 70) + strings.Repeat("]", 70), strings.Repeat(`{"a":`, 70) + "1" + strings.Repeat("}", 70),
}

// A message is valid JSON with the payloads of others in it, whatever they
// are: so each must be.
func FuzzValid(f *testing.F) {
	for _, s := range texts {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, want := Valid(b), utf8.Valid(b) && json.Valid(b); got != want {
			t.Errorf("%q: %v", b, got)
		}
	})
}
