package gear

import "bytes"

// Fields are what a generator needs of a message.
type Fields interface {
	// Set takes a field: its name, and its JSON, which points into the message.
	Set(name, json []byte)
}

// Scan takes a message apart. It trusts it to be JSON: what is not gives fields
// that are wrong, and those are counted.
func Scan(b []byte, f Fields) bool {
	i := space(b, 0)
	if i >= len(b) || b[i] != '{' {
		return false
	}
	for i = space(b, i+1); i < len(b) && b[i] != '}'; {
		key := value(b, i)
		i = space(b, i+len(key))
		if i >= len(b) || b[i] != ':' || len(key) < 2 {
			return false
		}
		i = space(b, i+1)
		v := value(b, i)
		if len(v) == 0 {
			return false
		}
		f.Set(key[1:len(key)-1], v)
		if i = space(b, i+len(v)); i < len(b) && b[i] == ',' {
			i = space(b, i+1)
		}
	}
	return i < len(b)
}

func space(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\r' || b[i] == '\t') {
		i++
	}
	return i
}

// value is the JSON value that starts at i, empty when there is none.
func value(b []byte, i int) []byte {
	if i >= len(b) {
		return nil
	}
	switch b[i] {
	case '"':
		return b[i:stringEnd(b, i)]
	case '{', '[':
		depth := 0
		for j := i; j < len(b); {
			switch b[j] {
			case '"':
				j = stringEnd(b, j)
				continue
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return b[i : j+1]
				}
			}
			j++
		}
		return nil
	}
	end := bytes.IndexAny(b[i:], ",}] \n\r\t")
	if end < 0 {
		return nil
	}
	return b[i : i+end]
}

// stringEnd is where the string that starts at i ends, its quote included.
func stringEnd(b []byte, i int) int {
	for j := i + 1; j < len(b); {
		k := bytes.IndexByte(b[j:], '"')
		if k < 0 {
			break
		}
		j += k
		slashes := 0
		for b[j-1-slashes] == '\\' {
			slashes++
		}
		if j++; slashes%2 == 0 {
			return j
		}
	}
	return len(b)
}
