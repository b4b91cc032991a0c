package main

import (
	"strings"
	"testing"
	"testing/fstest"
)

// sound is a small repository in which nothing is wrong.
func sound() map[string]string {
	return map[string]string{
		"go.mod":                "module m\n\ngo 1.26\n\nrequire (\n\texample.org/a v1.0.0\n\texample.org/b v1.0.0 // indirect\n)\n\nrequire example.org/c v1.0.0\n",
		"tools/go.mod":          "module m/tools\n\ntool (\n\texample.org/t/cmd/t\n)\n\nrequire (\n\texample.org/t v1.0.0 // indirect\n)\n",
		"web/package.json":      `{"dependencies": {"d": "1"}, "devDependencies": {"@s/e": "1"}}`,
		"web/package-lock.json": `{"packages": {"": {}, "node_modules/d": {"integrity": "x"}, "node_modules/own": {"resolved": "own", "link": true}}}`,
		"web/.npmrc":            "fund=false\nomit-lockfile-registry-resolved=true\n",
		"README.md":             "# What it is\n\nSee [the docs](docs/dependencies.md), [here](#what-it-is), [a folder](web), [out](https://example.org/x)\nand `[no](link)`.\n\n```\n[no](link)\n```\n",
		"docs/dependencies.md": "# Dependencies\n\nBack [home](../README.md#what-it-is).\n\n## `go.mod`\n\n| module | why |\n|---|---|\n| `example.org/a` | it is needed |\n| `example.org/c` | too |\n\n" +
			"## tools/go.mod\n\n| `example.org/t/cmd/t` | a tool |\n\n## web/package.json\n\n| `d` | one |\n| `@s/e` | two |\n",
		"a.go":        "package m\n\nimport _ \"example.org/a/x\"\n",
		"sub/go.mod":  "module m/sub\n\nrequire example.org/d v1.0.0 // indirect\n",
		"sub/d.go":    "package sub\n\nimport _ \"example.org/b\"\n",
		"picture.png": "\x00" + "/ho" + "me/somebody",
	}
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		name, file, old, new string
		want                 string // part of the one complaint; empty: none
	}{
		{name: "sound"},
		{"registry", "README.md", "# What", "npm --registry https://registry." + "npmjs.org\n# What", "package registry"},
		{"proxy", "README.md", "# What", "GOPROXY=https://proxy." + "golang.org\n# What", "module proxy"},
		{"home", "README.md", "# What", "cd /ho" + "me/ann/x\n# What", "README.md:1"},
		{"home of root", "README.md", "# What", "cd /roo" + "t/x\n# What", "somebody's home"},
		{"home on macOS", "README.md", "# What", "cd /Use" + "rs/ann\n# What", "somebody's home"},
		{"a URL is no home", "README.md", "# What", "example.org/homepage /rooted\n# What", ""},
		{"npmrc without the line", "web/.npmrc", "omit-", "#omit-", "web/.npmrc"},
		{"resolved", "web/package-lock.json", `"integrity"`, `"resolved": "https://example.org/d.tgz", "integrity"`, "node_modules/d is resolved"},
		{"lock of version 1", "web/package-lock.json", `"packages"`, `"dependencies"`, "lock file of version"},
		{"new module", "go.mod", "require example.org/c", "require example.org/n v1\nrequire example.org/c", "example.org/n is not listed"},
		{"no longer indirect", "go.mod", " // indirect", "", "example.org/b is not listed"},
		{"marked indirect but imported", "a.go", "example.org/a/x", "example.org/b/x", "example.org/b is not listed"},
		{"so in a module below", "sub/d.go", "example.org/b", "example.org/d", "no heading sub/go.mod"},
		{"gone module", "go.mod", "require example.org/c v1.0.0", "", "example.org/c is listed but no longer"},
		{"new tool", "tools/go.mod", "tool (", "tool (\n\texample.org/u", "example.org/u is not listed"},
		{"new package", "web/package.json", `"d": "1"`, `"d": "1", "f": "1"`, "f is not listed"},
		{"no reason", "docs/dependencies.md", "it is needed", "", "has no reason"},
		{"no heading", "docs/dependencies.md", "## tools/go.mod", "", "listed"},
		{"heading of nothing", "docs/dependencies.md", "# Dependencies", "## old/go.mod", "old/go.mod does not exist"},
		{"dead link", "README.md", "(web)", "(gone)", "no such file"},
		{"dead anchor", "docs/dependencies.md", "#what-it-is", "#what-it-was", "no such heading"},
		{"dead picture", "README.md", "# What", `<img src="docs/a.svg">` + "\n# What", "docs/a.svg"},
		{"link outside", "README.md", "(web)", "(../web)", "no such file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := sound()
			if c.file != "" {
				if !strings.Contains(files[c.file], c.old) {
					t.Fatalf("%s does not contain %q", c.file, c.old)
				}
				files[c.file] = strings.Replace(files[c.file], c.old, c.new, 1)
			}
			tree := fstest.MapFS{}
			names := []string{"removed.go"}
			for name, text := range files {
				tree[name] = &fstest.MapFile{Data: []byte(text)}
				names = append(names, name)
			}
			wrong, err := check(tree, names)
			if err != nil {
				t.Fatal(err)
			}
			if c.want == "" && len(wrong) > 0 {
				t.Errorf("complains: %q", wrong)
			}
			if c.want != "" && !strings.Contains(strings.Join(wrong, "\n"), c.want) {
				t.Errorf("got %q, want a complaint with %q", wrong, c.want)
			}
		})
	}
}
