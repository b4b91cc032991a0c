package dhtstore

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func TestMeasure(t *testing.T) {
	for _, c := range []struct {
		in   string
		want int
	}{
		{"i0e", 3},
		{"i-1e", 4},
		{"i9223372036854775807e", 21},
		{"i-9223372036854775808e", 22},
		{"i9223372036854775808e", -1},
		{"i00e", -1},
		{"i-0e", -1},
		{"i01e", -1},
		{"i+1e", -1},
		{"ie", -1},
		{"i", -1},
		{"i1", -1},
		{"i1 e", -1},
		{"0:", 2},
		{"3:abc", 5},
		{"3:abcd", 5},
		{"3:ab", -1},
		{"03:abc", -1},
		{"-1:a", -1},
		{":", -1},
		{"3", -1},
		{"99999:", -1},
		{"134217727:", -1},
		{"99999999999999999999:", -1},
		{"le", 2},
		{"l", -1},
		{"li1e1:ae", 8},
		{"li1e", -1},
		{"lx", -1},
		{"de", 2},
		{"d1:ai1ee", 8},
		{"d1:ae", -1},
		{"d1:a", -1},
		{"di1ei1ee", -1},
		{"d1:b0:1:a0:e", 12},
		{"e", -1},
		{"", -1},
		{strings.Repeat("l", 32) + strings.Repeat("e", 32), 64},
		{strings.Repeat("l", 33) + strings.Repeat("e", 33), -1},
		{strings.Repeat("d1:a", 32) + strings.Repeat("e", 32), -1},
	} {
		if got := measure([]byte(c.in), maxDepth); got != c.want {
			t.Errorf("%.40q: got %d, want %d", c.in, got, c.want)
		}
	}
}

func TestCanonical(t *testing.T) {
	for in, want := range map[string]bool{
		"i1e": true, "1:a": true, "le": true, "d1:a0:1:b0:e": true, "d1:a0:2:aa0:e": true, "d0:0:e": true,
		"d1:b0:1:a0:e": false, "d1:a0:1:a0:e": false, "ld1:b0:1:a0:ee": false, "d1:ad1:b0:1:a0:ee": false,
	} {
		if n := measure([]byte(in), maxDepth); n != len(in) {
			t.Fatalf("%q is not a value", in)
		}
		if got := canonical([]byte(in)); got != want {
			t.Errorf("%q: got %v", in, got)
		}
	}
}

func TestLookingInside(t *testing.T) {
	value := []byte("d1:ai-5e1:b3:xyz1:cl1:p1:qe1:dd1:x0:ee")
	var keys []string
	for key, v := range entriesOf(value) {
		keys = append(keys, key)
		n, isInt := intOf(v)
		s, isString := stringOf(v)
		if isInt != (key == "a") || isInt && n != -5 || isString != (key == "b") || isString && string(s) != "xyz" {
			t.Errorf("%s: %q is %d, %q", key, v, n, s)
		}
		if items := slices.Collect(itemsOf(v)); len(items) != len(map[string]string{"c": "pq"}[key]) {
			t.Errorf("%s has %d items", key, len(items))
		}
	}
	if strings.Join(keys, "") != "abcd" {
		t.Errorf("keys %q", keys)
	}
	b := appendEntry([]byte{'d'}, "a", "x")
	b = appendInt(appendString(b, "b"), -7)
	b = append(appendRaw(b, "c", []byte("le")), 'e')
	if want := "d1:a1:x1:bi-7e1:clee"; string(b) != want || measure(b, maxDepth) != len(b) {
		t.Errorf("wrote %s, want %s", b, want)
	}
}

// FuzzMeasure: what is measured can be looked into without an index out of
// range, and written anew to the same bytes.
func FuzzMeasure(f *testing.F) {
	for _, s := range []string{"i1e", "3:abc", "d1:ali1eee", "d1:a0:", "l0:e", "d2:ip0:1:t2:aa1:y1:re"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		n := measure(in, maxDepth)
		if n < 0 {
			return
		}
		if again := rewrite(in[:n]); !bytes.Equal(again, in[:n]) {
			t.Errorf("%q was written anew as %q", in[:n], again)
		}
		canonical(in[:n])
	})
}

func rewrite(value []byte) (b []byte) {
	if n, ok := intOf(value); ok {
		return appendInt(nil, n)
	}
	if s, ok := stringOf(value); ok {
		return appendString(nil, s)
	}
	b = append(b, value[0])
	for item := range itemsOf(value) {
		b = append(b, rewrite(item)...)
	}
	for key, v := range entriesOf(value) {
		b = appendRaw(b, key, rewrite(v))
	}
	return append(b, 'e')
}
