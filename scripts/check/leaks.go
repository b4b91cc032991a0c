package main

import (
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"strings"
)

// The patterns are written so that they do not match themselves.
var leaks = []struct {
	pattern *regexp.Regexp
	what    string
}{
	{regexp.MustCompile(`\bregistry\.(npmjs\.org|npmmirror\.com|yarnpkg\.com)\b|\bnpm\.pkg\.github\.com\b`), "a package registry's host name"},
	{regexp.MustCompile(`\b(proxy|sum|goproxy)\.(golang\.org|golang\.google\.cn|io|cn)\b`), "a module proxy's host name"},
	{regexp.MustCompile(`/(home|Users)/[A-Za-z]|(^|[^\w.])/root[/]`), "an absolute path in somebody's home"},
	{regexp.MustCompile(`\b[A-Za-z]:\\\\?Users\\`), "an absolute path in somebody's home"},
}

// leaks finds what is true of one machine only.
func (r repo) leaks() (wrong []string) {
	for name, text := range r {
		for number, line := range strings.Split(text, "\n") {
			for _, l := range leaks {
				if hit := l.pattern.FindString(line); hit != "" {
					wrong = append(wrong, fmt.Sprintf("%s:%d: %q is %s", name, number+1, hit, l.what))
				}
			}
		}
	}
	return wrong
}

const npmSetting = "omit-lockfile-registry-resolved=true"

// npm wants lock files that name no registry, so that they install from any,
// and the setting that keeps them so.
func (r repo) npm() (wrong []string) {
	for name, text := range r {
		dir := path.Dir(name)
		switch path.Base(name) {
		case "package.json":
			if !hasLine(r[path.Join(dir, ".npmrc")], npmSetting) {
				wrong = append(wrong, path.Join(dir, ".npmrc")+": has no line "+npmSetting)
			}
			if _, ok := r[path.Join(dir, "package-lock.json")]; !ok {
				wrong = append(wrong, path.Join(dir, "package-lock.json")+": is missing")
			}
		case "package-lock.json", "npm-shrinkwrap.json":
			wrong = append(wrong, resolved(name, text)...)
		case "yarn.lock", "pnpm-lock.yaml":
			wrong = append(wrong, name+": the lock file is npm's")
		}
	}
	return wrong
}

func resolved(name, text string) (wrong []string) {
	var lock struct {
		Packages map[string]struct {
			Resolved string
			Link     bool
		}
	}
	if err := json.Unmarshal([]byte(text), &lock); err != nil || len(lock.Packages) == 0 {
		return []string{name + ": is not a lock file of version 2 or 3"}
	}
	for dir, p := range lock.Packages {
		if p.Resolved != "" && !p.Link {
			wrong = append(wrong, fmt.Sprintf("%s: %s is resolved to a URL; remove the lock file and run npm install with the .npmrc beside it", name, dir))
		}
	}
	return wrong
}

func hasLine(text, line string) bool {
	for l := range strings.Lines(text) {
		if strings.TrimSpace(l) == line {
			return true
		}
	}
	return false
}
