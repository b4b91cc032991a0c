// Check looks at what no compiler or linter sees: that the files of the
// repository name no machine's paths and no package registry, that npm's
// settings keep it so, that docs/dependencies.md lists what the manifests
// list, and that links inside the documents lead somewhere.
//
//	go run ./scripts/check
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
)

func main() {
	out, err := exec.CommandContext(context.Background(), "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		fmt.Fprintln(os.Stderr, "check: git ls-files:", err)
		os.Exit(2)
	}
	names := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	wrong, err := check(os.DirFS("."), names)
	if err != nil {
		fmt.Fprintln(os.Stderr, "check:", err)
		os.Exit(2)
	}
	for _, w := range wrong {
		fmt.Println(w)
	}
	if len(wrong) > 0 {
		os.Exit(1)
	}
	fmt.Printf("%d files: no paths or registries named, npm settings, dependencies and links in order\n", len(names))
}

// repo is the text of the files under version control. Binary files are
// present with empty text.
type repo map[string]string

func load(tree fs.FS, names []string) (repo, error) {
	r := repo{}
	for _, name := range names {
		text, err := fs.ReadFile(tree, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed, the removal not yet committed
		}
		if err != nil {
			return nil, err
		}
		if bytes.IndexByte(text, 0) >= 0 {
			text = nil
		}
		r[name] = string(text)
	}
	return r, nil
}

func check(tree fs.FS, names []string) ([]string, error) {
	r, err := load(tree, names)
	if err != nil {
		return nil, err
	}
	wrong := slices.Concat(r.leaks(), r.npm(), r.dependencies(), r.links())
	slices.Sort(wrong)
	return slices.Compact(wrong), nil
}
