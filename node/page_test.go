package node_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/peerservers/peerserver/node"
)

// see asks the node's own port for a page; header is of pairs.
func see(t *testing.T, n *node.Node, path string, header ...string) (*http.Response, string) {
	t.Helper()
	return ask(t, n, http.MethodGet, path, headerOf(header))
}

var (
	loads    = regexp.MustCompile(`(?:src|href)="(page/[^"]+)"`)
	imports  = regexp.MustCompile(`from '\./([^']+)'`)
	inline   = regexp.MustCompile(`(?i)<script(?:>|\s+[^>]*>[^<])|<style|\sstyle=|\son[a-z]+=|javascript:`)
	elements = regexp.MustCompile(`\sid="([^"]+)"`)
	named    = regexp.MustCompile(`\s(?:aria-labelledby|aria-controls|data-copy|href)="#?([a-z-]+)"`)
)

// Every file that the page loads is there, and each is of its kind.
func TestPageIsWhole(t *testing.T) {
	n := startNode(t, node.Config{})
	answer, index := see(t, n, "/")
	if got := answer.Header.Get("Content-Type"); got != "text/html; charset=utf-8" {
		t.Errorf("/ is %s", got)
	}
	if bad := inline.FindString(index); bad != "" {
		t.Errorf("the policy would stop %q", bad)
	}
	queue, seen := []string{}, map[string]bool{}
	for _, m := range loads.FindAllStringSubmatch(index, -1) {
		queue = append(queue, m[1])
	}
	for len(queue) > 0 {
		name := queue[0]
		if queue = queue[1:]; seen[name] {
			continue
		}
		seen[name] = true
		answer, body := see(t, n, "/"+name)
		kind := map[string]string{".js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8", "svg": "image/svg+xml"}[name[len(name)-3:]]
		if answer.StatusCode != http.StatusOK || answer.Header.Get("Content-Type") != kind || answer.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d %v, want %s", name, answer.StatusCode, answer.Header, kind)
		}
		for _, m := range imports.FindAllStringSubmatch(body, -1) {
			queue = append(queue, "page/"+m[1])
		}
	}
	if len(seen) < 9 {
		t.Errorf("the page loads %d files only", len(seen))
	}
	there := map[string]bool{"top": true}
	for _, m := range elements.FindAllStringSubmatch(index, -1) {
		if there[m[1]] {
			t.Errorf("two elements have the id %s", m[1])
		}
		there[m[1]] = true
	}
	for _, m := range named.FindAllStringSubmatch(index, -1) {
		if m[1] != "health" && !there[m[1]] {
			t.Errorf("no element has the id %s", m[1])
		}
	}
}

func TestPagePolicy(t *testing.T) {
	n := startNode(t, node.Config{})
	answer, _ := see(t, n, "/")
	policy := answer.Header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'; script-src 'self'; style-src 'self';", "frame-ancestors 'none'"} {
		if !strings.Contains(policy, want) || strings.Contains(policy, "unsafe") {
			t.Errorf("the policy is %s", policy)
		}
	}
}

// A page that did not change is not sent again.
func TestPageIsKept(t *testing.T) {
	n := startNode(t, node.Config{})
	first, _ := see(t, n, "/page/main.js")
	etag := first.Header.Get("Etag")
	again, body := see(t, n, "/page/main.js", "If-None-Match", etag)
	if len(etag) < 10 || again.StatusCode != http.StatusNotModified || body != "" {
		t.Errorf("etag %s: %d with %d bytes", etag, again.StatusCode, len(body))
	}
	if other, _ := see(t, n, "/page/style.css", "If-None-Match", etag); other.StatusCode != http.StatusOK {
		t.Errorf("another file: %d", other.StatusCode)
	}
	for _, path := range []string{"/page/", "/page/none.js", "/page/../node.go", "/page/%2e%2e/page.go", "/index.html"} {
		if answer, _ := see(t, n, path); answer.StatusCode == http.StatusOK {
			t.Errorf("%s is served", path)
		}
	}
}

// The SDK is there for pages of any origin, also for isolated ones.
func TestSDK(t *testing.T) {
	n := startNode(t, node.Config{})
	for _, path := range []string{"/sdk.js", "/sdk-plain.js"} {
		answer, body := see(t, n, path, "Origin", "https://app.example.org")
		for name, want := range map[string]string{
			"Content-Type": "text/javascript; charset=utf-8", "Access-Control-Allow-Origin": "*", "Cross-Origin-Resource-Policy": "cross-origin",
		} {
			if got := answer.Header.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", path, name, got, want)
			}
		}
		if !strings.Contains(body, "export{") || imports.MatchString(body) {
			t.Errorf("%d bytes of %s are no module of the SDK", len(body), path)
		}
	}
	if _, body := see(t, n, "/sdk.js"); !strings.Contains(body, "peerserver.v1") || !strings.Contains(body, `import("./sdk-plain.js")`) {
		t.Errorf("%d bytes are not the SDK", len(body))
	}
}
