package gear

import (
	"bytes"
	"errors"
	"os"
	"slices"
)

// WriteBetween puts text into a file, in place of what stands between two marks.
func WriteBetween(file, start, end, text string) error {
	doc, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, ok := bytes.Cut(doc, []byte(start))
	_, after, ok2 := bytes.Cut(rest, []byte(end))
	if !ok || !ok2 {
		return errors.New(file + " lacks the marks between which the tables go")
	}
	return os.WriteFile(file, slices.Concat(before, []byte(start), []byte(text), []byte(end), after), 0o644) //nolint:gosec // a document
}
