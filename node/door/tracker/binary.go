package tracker

import (
	"unicode/utf8"

	"github.com/peerservers/peerserver/node/door/scan"
)

// The protocol's binary fields are strings of characters U+0000 to U+00FF, one
// byte each. In JSON such a character comes raw in UTF-8 or as an escape.

// appendBytes appends the bytes that a JSON string stands for. It reports
// false when v is not a string, or has a character above U+00FF.
func appendBytes(dst, v []byte) ([]byte, bool) {
	if len(v) < 2 || v[0] != '"' {
		return dst, false
	}
	v = v[1 : len(v)-1]
	for i := 0; i < len(v); {
		c := v[i]
		switch {
		case c == '\\':
			b, n := unescape(v[i:])
			if n == 0 {
				return dst, false
			}
			dst = append(dst, b)
			i += n
		case c < utf8.RuneSelf:
			dst = append(dst, c)
			i++
		case (c == 0xc2 || c == 0xc3) && i+1 < len(v): // U+0080 to U+00FF
			dst = append(dst, c<<6|v[i+1]&0x3f)
			i += 2
		default:
			return dst, false
		}
	}
	return dst, true
}

// unescape reads the escape at the start of v and says how long it is, 0 for
// one of a character above U+00FF.
func unescape(v []byte) (byte, int) {
	switch v[1] {
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	case 'u':
		var c [4]byte
		for i := range c {
			c[i], _ = scan.Unhex(v[2+i])
		}
		if c[0]|c[1] != 0 {
			return 0, 0
		}
		return c[2]<<4 | c[3], 6
	}
	return v[1], 2
}

// appendString appends b as the JSON string that JSON.stringify would make of
// it.
func appendString[T []byte | string](dst []byte, b T) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for i := range len(b) {
		switch c := b[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c >= utf8.RuneSelf:
			dst = append(dst, 0xc0|c>>6, 0x80|c&0x3f)
		case c >= 0x20:
			dst = append(dst, c)
		default:
			dst = append(dst, '\\')
			switch c {
			case '\b':
				dst = append(dst, 'b')
			case '\f':
				dst = append(dst, 'f')
			case '\n':
				dst = append(dst, 'n')
			case '\r':
				dst = append(dst, 'r')
			case '\t':
				dst = append(dst, 't')
			default:
				dst = append(dst, 'u', '0', '0', hex[c>>4], hex[c&15])
			}
		}
	}
	return append(dst, '"')
}
