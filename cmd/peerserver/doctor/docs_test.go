package doctor_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/peerservers/peerserver/cmd/peerserver/doctor"
)

const operators = "../../../docs/operators.md"

// TestDocsListTheCodes: the operators' page has each code, with what doctor says
// of it, in doctor's order.
func TestDocsListTheCodes(t *testing.T) {
	text, err := os.ReadFile(operators)
	if err != nil {
		t.Fatal(err)
	}
	_, chapter, _ := strings.Cut(string(text), "\n## When something does not work\n")
	chapter, _, _ = strings.Cut(chapter, "\n## ")
	var rows []string
	for line := range strings.Lines(chapter) {
		if strings.HasPrefix(line, "| `") {
			rows = append(rows, strings.TrimSpace(line))
		}
	}
	for i, f := range doctor.Faults() {
		want := fmt.Sprintf("| `%s` | %s | %s |", f.Code, f.State, strings.ReplaceAll(f.Do, "|", "\\|"))
		if i >= len(rows) || rows[i] != want {
			t.Errorf("%s, row %d of the codes is not\n%s", operators, i+1, want)
		}
	}
	if n := len(doctor.Faults()); len(rows) > n {
		t.Errorf("%s has %d codes that there are not", operators, len(rows)-n)
	}
}
