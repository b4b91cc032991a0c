// Package scan reads JSON in place: what clients send goes on to others byte by
// byte, so it has to be valid, and nobody wants it parsed and written anew.
// Scanner is for hot paths, [Pick] for all others.
package scan

import (
	"encoding/binary"
	"encoding/json"
	"math/bits"
	"unicode/utf8"
)

// Valid says whether b is one JSON value, in UTF-8.
func Valid(b []byte) bool {
	s := Over(b)
	s.Space()
	return s.Value() && s.End() || utf8.Valid(b) && json.Valid(b)
}

// maxDepth is how deep the scanner follows; one bit of a word each.
const maxDepth = 64

// Scanner walks over the bytes of a JSON text. What its methods take has to be
// there, or they say false; then the text is wrong, or unusual.
type Scanner struct {
	b []byte
	i int // the next one
}

// Over is a Scanner at the beginning of b.
func Over(b []byte) Scanner { return Scanner{b: b} }

// At is where the next byte is.
func (s *Scanner) At() int { return s.i }

// From is what was taken from a place on.
func (s *Scanner) From(at int) []byte { return s.b[at:s.i] }

// Space takes what space there is.
func (s *Scanner) Space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return
		}
	}
}

// Open takes c after space.
func (s *Scanner) Open(c byte) bool {
	s.Space()
	if s.i < len(s.b) && s.b[s.i] == c {
		s.i++
		return true
	}
	return false
}

// Close is Open, for the other end.
func (s *Scanner) Close(c byte) bool { return s.Open(c) }

// After takes one byte after space, 0 at the end.
func (s *Scanner) After() byte {
	s.Space()
	if s.i == len(s.b) {
		return 0
	}
	s.i++
	return s.b[s.i-1]
}

// End takes space, and says whether nothing follows.
func (s *Scanner) End() bool {
	s.Space()
	return s.i == len(s.b)
}

// Key takes a key without escapes, its colon, and the space after that.
func (s *Scanner) Key() ([]byte, bool) {
	if !s.Open('"') {
		return nil, false
	}
	at := s.i
	end := Plain(s.b, at)
	if end == len(s.b) || s.b[end] != '"' {
		return nil, false
	}
	s.i = end + 1
	if !s.Open(':') {
		return nil, false
	}
	s.Space()
	return s.b[at:end], true
}

// Value takes one JSON value of any kind. Space before it was taken.
func (s *Scanner) Value() bool {
	var object uint64 // bit n: the container at depth n is an object
	depth := 0
	for {
		if s.i == len(s.b) {
			return false
		}
		ok := true
		switch c := s.b[s.i]; c {
		case '"':
			s.i++
			ok = s.str()
		case '{', '[':
			s.i++
			if s.Close(c + 2) { // '}' and ']' are two after '{' and '['
				break
			}
			if depth == maxDepth {
				return false
			}
			if c == '{' {
				object |= 1 << depth
				_, ok = s.anyKey()
			} else {
				object &^= 1 << depth
				s.Space()
			}
			if depth++; ok {
				continue
			}
		case 't':
			ok = s.word("true")
		case 'f':
			ok = s.word("false")
		case 'n':
			ok = s.word("null")
		default:
			ok = s.number()
		}
		if !ok {
			return false
		}
		if done, ok := s.closeAll(&depth, object); done || !ok {
			return ok
		}
	}
}

// closeAll takes what may follow a value inside depth containers, up to the
// next value or, done, the end of the outermost.
func (s *Scanner) closeAll(depth *int, object uint64) (done, ok bool) {
	for *depth > 0 {
		in := object>>(*depth-1)&1 == 1
		switch s.After() {
		case ',':
			if in {
				_, ok = s.anyKey()
				return false, ok
			}
			s.Space()
			return false, true
		case '}':
			ok = in
		case ']':
			ok = !in
		default:
			return false, false
		}
		if !ok {
			return false, false
		}
		*depth--
	}
	return true, true
}

// anyKey takes a key with any escapes, its colon and the space after.
func (s *Scanner) anyKey() (int, bool) {
	if !s.Open('"') || !s.str() || !s.Open(':') {
		return 0, false
	}
	s.Space()
	return s.i, true
}

// str takes the rest of a string, after its first quote.
func (s *Scanner) str() bool {
	b, i := s.b, s.i
	for {
		i = Plain(b, i)
		if i >= len(b) {
			return false
		}
		switch c := b[i]; {
		case c == '"':
			s.i = i + 1
			return true
		case c == '\\':
			n := escape(b[i:])
			if n == 0 {
				return false
			}
			i += n
		case c < utf8.RuneSelf: // a control character
			return false
		default:
			r, n := utf8.DecodeRune(b[i:])
			if r == utf8.RuneError && n == 1 {
				return false
			}
			i += n
		}
	}
}

// escape is the length of the escape at the start of b, 0 when it is none. An
// SDP has two after each line, which are taken in one go.
func escape(b []byte) int {
	if len(b) >= 4 && binary.LittleEndian.Uint32(b) == crlf {
		return 4
	}
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if len(b) < 6 {
			return 0
		}
		for _, c := range b[2:6] {
			if _, ok := Unhex(c); !ok {
				return 0
			}
		}
		return 6
	}
	return 0
}

// crlf is the four bytes of \r\n as JSON has them.
const crlf = '\\' | 'r'<<8 | '\\'<<16 | 'n'<<24

// Unhex is the number that a hexadecimal digit stands for.
func Unhex(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

func (s *Scanner) word(w string) bool {
	if len(s.b)-s.i < len(w) || string(s.b[s.i:s.i+len(w)]) != w {
		return false
	}
	s.i += len(w)
	return true
}

func (s *Scanner) number() bool {
	if s.peek() == '-' {
		s.i++
	}
	switch c := s.peek(); {
	case c == '0':
		s.i++
	case '1' <= c && c <= '9':
		s.digits()
	default:
		return false
	}
	if s.peek() == '.' {
		s.i++
		if !s.digits() {
			return false
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.i++
		if c := s.peek(); c == '+' || c == '-' {
			s.i++
		}
		return s.digits()
	}
	return true
}

func (s *Scanner) peek() byte {
	if s.i == len(s.b) {
		return 0
	}
	return s.b[s.i]
}

func (s *Scanner) digits() bool {
	at := s.i
	for c := s.peek(); '0' <= c && c <= '9'; c = s.peek() {
		s.i++
	}
	return s.i > at
}

// Every byte of a word.
const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// Plain is the index, from i on, of the first byte that is not an ordinary
// ASCII character of a string: a quote, backslash, control character or part
// of another character. It looks at eight bytes at a time; a payload is a
// kilobyte of them.
func Plain(b []byte, i int) int {
	for i+8 <= len(b) {
		w := binary.LittleEndian.Uint64(b[i:])
		// Below 0x20 and the quote are what is below 0x21 with bit 1 turned.
		// Where a byte is ASCII each difference has its high bit set only for
		// what is looked for, or after a borrow from a lower byte that has it
		// too: so the lowest is never a false one.
		if m := ((w ^ ones*2 - ones*0x21) | (w ^ ones*'\\' - ones) | w) & highs; m != 0 {
			return i + bits.TrailingZeros64(m)/8
		}
		i += 8
	}
	for i < len(b) {
		if c := b[i]; c < 0x20 || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			return i
		}
		i++
	}
	return i
}
