package doctor_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
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

// TestCodesAreKnown: each code that stands anywhere in the source is given by some
// check, is among Faults, and stands on the operators' page.
func TestCodesAreKnown(t *testing.T) {
	text, err := os.ReadFile(operators)
	if err != nil {
		t.Fatal(err)
	}
	known := map[doctor.Code]bool{doctor.CodeOK: true}
	for _, f := range doctor.Faults() {
		known[f.Code] = true
	}
	codes, used := source(t)
	for name, code := range codes {
		if used[name] == 0 {
			t.Errorf("%s is given by no check", name)
		}
		if !known[code] {
			t.Errorf("%s is not among Faults", name)
		}
		if code != doctor.CodeOK && !strings.Contains(string(text), "\n| `"+string(code)+"` | ") {
			t.Errorf("%s has no %s", operators, code)
		}
	}
	if len(codes) != len(known) {
		t.Errorf("%d codes are in the source, and %d are known", len(codes), len(known))
	}
}

// source is which codes the package declares, by name, and how often each is named
// where something is looked at.
func source(t *testing.T) (codes map[string]doctor.Code, used map[string]int) {
	t.Helper()
	codes, used = make(map[string]doctor.Code), make(map[string]int)
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				return n.Name.Name != "Faults" // names them all
			case *ast.ValueSpec:
				if typ, ok := n.Type.(*ast.Ident); ok && typ.Name == "Code" && len(n.Values) == 1 {
					text, err := strconv.Unquote(n.Values[0].(*ast.BasicLit).Value)
					if err != nil {
						t.Fatal(err)
					}
					codes[n.Names[0].Name] = doctor.Code(text)
					return false
				}
			case *ast.Ident:
				used[n.Name]++
			}
			return true
		})
	}
	return codes, used
}
