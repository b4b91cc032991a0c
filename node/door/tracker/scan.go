package tracker

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"

	"github.com/peerservers/peerserver/protocol"
)

// fields are the raw JSON values of a message, as they stand in it: slices of
// its bytes, nil where the key is absent.
type fields struct {
	action, infoHash, peerID, toPeerID, offerID, left, event, answer []byte

	list   bool // offers is a list
	bad    bool // with an element that is not an object
	offers []rawOffer
}

type rawOffer struct{ id, offer []byte }

func (f *fields) reset() {
	clear(f.offers)
	*f = fields{offers: f.offers[:0]}
}

// add keeps an offer; those above the protocol's limit are forgotten.
func (f *fields) add(o rawOffer) {
	if len(f.offers) < protocol.MaxOffers {
		f.offers = append(f.offers, o)
	}
}

// slot is where the value of a top-level key goes, nil for keys that nobody
// reads.
func (f *fields) slot(key string) *[]byte {
	switch key {
	case "action":
		return &f.action
	case "info_hash":
		return &f.infoHash
	case "peer_id":
		return &f.peerID
	case "to_peer_id":
		return &f.toPeerID
	case "offer_id":
		return &f.offerID
	case "left":
		return &f.left
	case "event":
		return &f.event
	case "answer":
		return &f.answer
	}
	return nil
}

// maxDepth is how deep the scanner follows; one bit of a word each.
const maxDepth = 64

// scan splits a message in one pass, checking that it is JSON: what it hands
// on goes verbatim into the messages of others. It gives up, reporting false,
// on what is wrong and on what is unusual; then [parse] decides.
func scan(b []byte, f *fields) bool {
	f.reset()
	s := scanner{b: b}
	if !s.open('{') {
		return false
	}
	if s.close('}') {
		return s.end()
	}
	for {
		key, ok := s.key()
		if !ok {
			return false
		}
		if string(key) == "offers" {
			ok = s.offers(f)
		} else {
			slot := f.slot(string(key))
			at := s.i
			ok = (slot == nil || *slot == nil) && s.value()
			if ok && slot != nil {
				*slot = b[at:s.i]
			}
		}
		if !ok {
			return false
		}
		switch s.after() {
		case ',':
		case '}':
			return s.end()
		default:
			return false
		}
	}
}

// scanner walks over bytes; i is the next one.
type scanner struct {
	b []byte
	i int
}

func (s *scanner) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return
		}
	}
}

// open takes c after space.
func (s *scanner) open(c byte) bool {
	s.space()
	if s.i < len(s.b) && s.b[s.i] == c {
		s.i++
		return true
	}
	return false
}

func (s *scanner) close(c byte) bool { return s.open(c) }

// after takes one byte after space, 0 at the end.
func (s *scanner) after() byte {
	s.space()
	if s.i == len(s.b) {
		return 0
	}
	s.i++
	return s.b[s.i-1]
}

func (s *scanner) end() bool {
	s.space()
	return s.i == len(s.b)
}

// key takes a key without escapes, its colon, and the space after that.
func (s *scanner) key() ([]byte, bool) {
	if !s.open('"') {
		return nil, false
	}
	at := s.i
	end := plain(s.b, at)
	if end == len(s.b) || s.b[end] != '"' {
		return nil, false
	}
	s.i = end + 1
	if !s.open(':') {
		return nil, false
	}
	s.space()
	return s.b[at:end], true
}

// offers takes the list of offers. Twice the key, and elements that are not
// objects or name a key twice, are unusual.
func (s *scanner) offers(f *fields) bool {
	if f.list || !s.open('[') {
		return false
	}
	f.list = true
	if s.close(']') {
		return true
	}
	for {
		if !s.offer(f) {
			return false
		}
		switch s.after() {
		case ',':
		case ']':
			return true
		default:
			return false
		}
	}
}

func (s *scanner) offer(f *fields) bool {
	if !s.open('{') {
		return false
	}
	var o rawOffer
	if s.close('}') {
		f.add(o)
		return true
	}
	for {
		key, ok := s.key()
		if !ok {
			return false
		}
		at := s.i
		if !s.value() {
			return false
		}
		switch v := s.b[at:s.i]; string(key) {
		case "offer_id":
			if o.id != nil {
				return false
			}
			o.id = v
		case "offer":
			if o.offer != nil {
				return false
			}
			o.offer = v
		}
		switch s.after() {
		case ',':
		case '}':
			f.add(o)
			return true
		default:
			return false
		}
	}
}

// value takes one JSON value of any kind. Space before it was taken.
func (s *scanner) value() bool {
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
			if s.close(c + 2) { // '}' and ']' are two after '{' and '['
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
				s.space()
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
func (s *scanner) closeAll(depth *int, object uint64) (done, ok bool) {
	for *depth > 0 {
		in := object>>(*depth-1)&1 == 1
		switch s.after() {
		case ',':
			if in {
				_, ok = s.anyKey()
				return false, ok
			}
			s.space()
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
func (s *scanner) anyKey() (int, bool) {
	if !s.open('"') || !s.str() || !s.open(':') {
		return 0, false
	}
	s.space()
	return s.i, true
}

// str takes the rest of a string, after its first quote.
func (s *scanner) str() bool {
	b, i := s.b, s.i
	for {
		i = plain(b, i)
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
			if _, ok := unhex(c); !ok {
				return 0
			}
		}
		return 6
	}
	return 0
}

// crlf is the four bytes of \r\n as JSON has them.
const crlf = '\\' | 'r'<<8 | '\\'<<16 | 'n'<<24

func unhex(c byte) (byte, bool) {
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

func (s *scanner) word(w string) bool {
	if len(s.b)-s.i < len(w) || string(s.b[s.i:s.i+len(w)]) != w {
		return false
	}
	s.i += len(w)
	return true
}

func (s *scanner) number() bool {
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

func (s *scanner) peek() byte {
	if s.i == len(s.b) {
		return 0
	}
	return s.b[s.i]
}

func (s *scanner) digits() bool {
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

// plain is the index, from i on, of the first byte that is not an ordinary
// ASCII character of a string: a quote, backslash, control character or part
// of another character. It looks at eight bytes at a time; a payload is a
// kilobyte of them.
func plain(b []byte, i int) int {
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
