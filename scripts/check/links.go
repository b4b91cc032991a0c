package main

import (
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strings"
	"unicode"
)

var (
	link    = regexp.MustCompile(`\]\(<?([^)\s>]+)>?(?:\s+"[^"]*")?\)|^\[[^\]]+\]:\s*(\S+)|\b(?:src|srcset|href)="([^"]+)"`)
	code    = regexp.MustCompile("`[^`]*`")
	heading = regexp.MustCompile(`^#{1,6}\s+(.*)`)
)

// links follows every link of a document that stays inside the repository, to
// a file or folder, and to the heading where one is named.
func (r repo) links() (wrong []string) {
	folders := map[string]bool{".": true}
	for name := range r {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			folders[dir] = true
		}
	}
	for name, text := range r {
		if !strings.HasSuffix(name, ".md") {
			continue
		}
		for number, line := range prose(text) {
			for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(line, "`code`"), -1) {
				target := m[1] + m[2] + m[3]
				if why := r.broken(folders, name, target); why != "" {
					wrong = append(wrong, fmt.Sprintf("%s:%d: link to %s: %s", name, number+1, target, why))
				}
			}
		}
	}
	return wrong
}

func (r repo) broken(folders map[string]bool, from, target string) string {
	u, err := url.Parse(target)
	if err != nil {
		return "is not a URL"
	}
	if u.Scheme != "" || u.Host != "" {
		return "" // elsewhere; the network is not asked
	}
	if strings.HasPrefix(u.Path, "/") {
		return "starts at a root that the repository does not know"
	}
	file := from
	if u.Path != "" {
		file = path.Join(path.Dir(from), u.Path)
	}
	text, ok := r[file]
	if !ok && !folders[file] {
		return "no such file"
	}
	if u.Fragment != "" && strings.HasSuffix(file, ".md") && !anchors(text)[u.Fragment] {
		return "no such heading"
	}
	return ""
}

// anchors are the names that a document's headings get on a forge.
func anchors(text string) map[string]bool {
	all := map[string]bool{}
	for _, line := range prose(text) {
		m := heading.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		name := slug(m[1])
		unique := name
		for n := 1; all[unique]; n++ {
			unique = fmt.Sprintf("%s-%d", name, n)
		}
		all[unique] = true
	}
	return all
}

func slug(title string) string {
	title = regexp.MustCompile(`\]\([^)]*\)`).ReplaceAllString(title, "")
	return strings.Map(func(c rune) rune {
		switch {
		case c == ' ':
			return '-'
		case c == '-' || c == '_' || unicode.IsLetter(c) || unicode.IsDigit(c):
			return unicode.ToLower(c)
		}
		return -1
	}, strings.TrimSpace(title))
}

// prose is a document's lines, those inside fences emptied.
func prose(text string) []string {
	lines := strings.Split(text, "\n")
	fence := ""
	for i, line := range lines {
		mark := strings.TrimLeft(line, " ")
		switch {
		case fence == "" && (strings.HasPrefix(mark, "```") || strings.HasPrefix(mark, "~~~")):
			fence = mark[:3]
		case fence != "" && strings.HasPrefix(mark, fence):
			fence = ""
		case fence == "":
			continue
		}
		lines[i] = ""
	}
	return lines
}
