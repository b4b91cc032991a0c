package dhtstore

import (
	"bytes"
	"iter"
	"strconv"
)

// Bencode, read in place: a value is the bytes that make it up. Whoever has a
// value has it from measure, which has seen that all of it is well-formed, so
// the functions that look into one have no errors.

// maxDepth is how deep lists and dictionaries may be nested.
const maxDepth = 32

// measure is the length of the value that b begins with, or -1 if it begins
// with none: if it is cut, nested deeper than depth, or has an integer that
// has leading zeros or does not fit 64 bits.
func measure(b []byte, depth int) int {
	if len(b) == 0 {
		return -1
	}
	switch b[0] {
	case 'i':
		return measureInt(b)
	case 'l', 'd':
		return measureItems(b, depth)
	default:
		start, length, ok := stringAt(b)
		if !ok {
			return -1
		}
		return start + length
	}
}

func measureInt(b []byte) int {
	end := bytes.IndexByte(b[:min(len(b), 22)], 'e')
	if end < 0 {
		return -1
	}
	digits := string(b[1:end])
	if n, err := strconv.ParseInt(digits, 10, 64); err != nil || strconv.FormatInt(n, 10) != digits {
		return -1
	}
	return end + 1
}

func measureItems(b []byte, depth int) int {
	if depth == 0 {
		return -1
	}
	at := 1
	for key := b[0] == 'd'; at < len(b) && b[at] != 'e'; {
		if key {
			if _, _, ok := stringAt(b[at:]); !ok {
				return -1
			}
		}
		n := measure(b[at:], depth-1)
		if n < 0 {
			return -1
		}
		at += n
		if b[0] == 'd' {
			key = !key
			if !key && at < len(b) && b[at] == 'e' {
				return -1 // a key without a value
			}
		}
	}
	if at >= len(b) {
		return -1
	}
	return at + 1
}

// stringAt is where the bytes of the string lie that b begins with.
func stringAt(b []byte) (start, length int, ok bool) {
	colon := bytes.IndexByte(b[:min(len(b), 6)], ':')
	if colon < 1 || b[0] == '0' && colon > 1 {
		return 0, 0, false
	}
	for _, c := range b[:colon] {
		if c < '0' || c > '9' {
			return 0, 0, false
		}
		length = 10*length + int(c-'0')
	}
	start = colon + 1
	return start, length, length <= len(b)-start
}

// stringOf is the content of a value, if that is a string.
func stringOf(value []byte) ([]byte, bool) {
	if len(value) == 0 || value[0] < '0' || value[0] > '9' {
		return nil, false
	}
	start, length, _ := stringAt(value)
	return value[start : start+length], true
}

// intOf is the content of a value, if that is an integer.
func intOf(value []byte) (int64, bool) {
	if len(value) == 0 || value[0] != 'i' {
		return 0, false
	}
	n, err := strconv.ParseInt(string(value[1:len(value)-1]), 10, 64)
	return n, err == nil
}

// itemsOf goes through a value's items, if that is a list; else there are none.
func itemsOf(value []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		if len(value) == 0 || value[0] != 'l' {
			return
		}
		for rest := value[1 : len(value)-1]; len(rest) > 0; {
			n := measure(rest, maxDepth)
			if !yield(rest[:n]) {
				return
			}
			rest = rest[n:]
		}
	}
}

// entriesOf goes through a value's keys and values, if that is a dictionary;
// else there are none.
func entriesOf(value []byte) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		if len(value) == 0 || value[0] != 'd' {
			return
		}
		for rest := value[1 : len(value)-1]; len(rest) > 0; {
			start, length, _ := stringAt(rest)
			key := string(rest[start : start+length])
			rest = rest[start+length:]
			n := measure(rest, maxDepth)
			if !yield(key, rest[:n]) {
				return
			}
			rest = rest[n:]
		}
	}
}

// canonical says whether all dictionaries in a value have their keys in
// order, none twice, so that every program that reads and writes the value
// comes to the same bytes.
func canonical(value []byte) bool {
	for item := range itemsOf(value) {
		if !canonical(item) {
			return false
		}
	}
	last, first := "", true
	for key, v := range entriesOf(value) {
		if !first && key <= last || !canonical(v) {
			return false
		}
		last, first = key, false
	}
	return true
}

func appendString[S string | []byte](b []byte, s S) []byte {
	b = strconv.AppendInt(b, int64(len(s)), 10)
	b = append(b, ':')
	return append(b, s...)
}

func appendInt(b []byte, n int64) []byte {
	b = append(b, 'i')
	b = strconv.AppendInt(b, n, 10)
	return append(b, 'e')
}

// appendEntry is a key with a string.
func appendEntry[S string | []byte](b []byte, key string, s S) []byte {
	return appendString(appendString(b, key), s)
}

// appendRaw is a key with a value that is bencoded already.
func appendRaw(b []byte, key string, value []byte) []byte {
	return append(appendString(b, key), value...)
}
