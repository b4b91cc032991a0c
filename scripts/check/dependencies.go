package main

import (
	"encoding/json"
	"go/parser"
	"go/token"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const dependenciesDoc = "docs/dependencies.md"

// dependencies compares the document with the manifests, both ways: each
// manifest has a heading of its own path there, and below it a table with one
// row for each thing the manifest asks for directly.
func (r repo) dependencies() (wrong []string) {
	documented := tables(r[dependenciesDoc])
	for name, text := range r {
		var want []string
		switch path.Base(name) {
		case "go.mod":
			want = required(text, r.imports(path.Dir(name)))
		case "package.json":
			var err error
			if want, err = packages(text); err != nil {
				wrong = append(wrong, name+": "+err.Error())
			}
		default:
			continue
		}
		have, ok := documented[name]
		if !ok && len(want) > 0 {
			wrong = append(wrong, dependenciesDoc+": has no heading "+name)
			continue
		}
		for _, w := range want {
			if reason, ok := have[w]; !ok {
				wrong = append(wrong, dependenciesDoc+": "+name+": "+w+" is not listed")
			} else if reason == "" {
				wrong = append(wrong, dependenciesDoc+": "+name+": "+w+" has no reason")
			}
		}
		for h := range have {
			if !slices.Contains(want, h) {
				wrong = append(wrong, dependenciesDoc+": "+name+": "+h+" is listed but no longer asked for")
			}
		}
	}
	for heading := range documented {
		if base := path.Base(heading); base == "go.mod" || base == "package.json" {
			if _, ok := r[heading]; !ok {
				wrong = append(wrong, dependenciesDoc+": "+heading+" does not exist")
			}
		}
	}
	return wrong
}

// required lists the tools of a go.mod that has any, else the modules it
// requires for its own sake: those not marked indirect, and those that are
// imported whatever the mark says, since `go get` marks all alike.
func required(text string, imports []string) []string {
	asked := map[string][]string{}
	block := ""
	for line := range strings.Lines(text) {
		line, comment, _ := strings.Cut(line, "//")
		words := strings.Fields(line)
		switch {
		case len(words) == 0:
		case words[0] == ")":
			block = ""
		case len(words) == 2 && words[1] == "(":
			block = words[0]
		default:
			verb := block
			if verb == "" {
				verb, words = words[0], words[1:]
			}
			if len(words) > 0 && (strings.TrimSpace(comment) != "indirect" || provides(words[0], imports)) {
				asked[verb] = append(asked[verb], words[0])
			}
		}
	}
	if len(asked["tool"]) > 0 {
		return asked["tool"]
	}
	return asked["require"]
}

// provides says whether any of the imported packages can be of a module. A
// module whose path continues that of another is taken for a folder of it.
func provides(module string, imports []string) bool {
	return slices.ContainsFunc(imports, func(i string) bool { return i == module || strings.HasPrefix(i, module+"/") })
}

// imports are those of the Go files of the module in a folder.
func (r repo) imports(module string) (all []string) {
	for name, text := range r {
		if !strings.HasSuffix(name, ".go") || r.module(name) != module {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ImportsOnly)
		if err != nil {
			continue // the compiler says it better
		}
		for _, spec := range file.Imports {
			if imported, err := strconv.Unquote(spec.Path.Value); err == nil {
				all = append(all, imported)
			}
		}
	}
	return all
}

// module is the folder of the go.mod that a file belongs to.
func (r repo) module(name string) string {
	for dir := path.Dir(name); ; dir = path.Dir(dir) {
		if _, ok := r[path.Join(dir, "go.mod")]; ok || dir == "." {
			return dir
		}
	}
}

func packages(text string) ([]string, error) {
	var manifest struct {
		Dependencies, DevDependencies, OptionalDependencies, PeerDependencies, Overrides map[string]any
	}
	if err := json.Unmarshal([]byte(text), &manifest); err != nil {
		return nil, err
	}
	all := map[string]any{}
	for _, m := range []map[string]any{
		manifest.Dependencies, manifest.DevDependencies, manifest.OptionalDependencies, manifest.PeerDependencies, manifest.Overrides,
	} {
		maps.Copy(all, m)
	}
	return slices.Collect(maps.Keys(all)), nil
}

var row = regexp.MustCompile("^\\|\\s*`([^`]+)`\\s*\\|([^|]*)")

// tables gives each heading's rows: the name in backquotes, and its reason.
func tables(text string) map[string]map[string]string {
	all := map[string]map[string]string{}
	heading := ""
	for line := range strings.Lines(text) {
		if title, ok := strings.CutPrefix(line, "## "); ok {
			heading = strings.Trim(strings.TrimSpace(title), "`")
			all[heading] = map[string]string{}
		}
		if m := row.FindStringSubmatch(line); m != nil && heading != "" {
			all[heading][m[1]] = strings.TrimSpace(m[2])
		}
	}
	return all
}
