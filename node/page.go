package node

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"time"

	"github.com/peerservers/peerserver/peer/browser"
)

//go:embed page
var pageFiles embed.FS

// page is what a browser gets at /: a few static files. Everything that is
// about this very node the page asks for itself.
type page struct {
	files map[string]pageFile // by name
}

type pageFile struct {
	body       []byte
	kind, etag string
}

// pageKinds are the files that are served, by extension: what the system says
// of extensions may be anything.
func pageKinds(ext string) string {
	switch ext {
	case ".html":
		return "text/html; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	}
	return ""
}

func newPageFile(body []byte, ext string) pageFile {
	sum := sha256.Sum256(body)
	return pageFile{body, pageKinds(ext), `"` + hex.EncodeToString(sum[:8]) + `"`}
}

func newPage() *page {
	p := &page{files: map[string]pageFile{
		"sdk.js": newPageFile(browser.SDK, ".js"), "sdk-plain.js": newPageFile(browser.SDKPlain, ".js"),
	}}
	err := fs.WalkDir(pageFiles, "page", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := pageFiles.ReadFile(name)
		if f := newPageFile(body, path.Ext(name)); f.kind != "" {
			p.files[path.Base(name)] = f
		}
		return err
	})
	if err != nil {
		panic(err) // the files are part of the program
	}
	return p
}

// index is the page itself.
func (p *page) index(w http.ResponseWriter, q *http.Request) { p.serve(w, q, "index.html") }

func (p *page) register(m *http.ServeMux) {
	// The SDK, for pages of any origin.
	for _, name := range []string{"sdk.js", "sdk-plain.js"} {
		m.HandleFunc("GET /"+name, func(w http.ResponseWriter, q *http.Request) {
			w.Header().Set("Cross-Origin-Resource-Policy", "cross-origin")
			p.serve(w, q, name)
		})
	}
	m.HandleFunc("GET /page/{file}", func(w http.ResponseWriter, q *http.Request) { p.serve(w, q, q.PathValue("file")) })
}

func (p *page) serve(w http.ResponseWriter, q *http.Request, name string) {
	f, ok := p.files[name]
	if !ok {
		http.NotFound(w, q)
		return
	}
	h := w.Header()
	h.Set("Content-Type", f.kind)
	h.Set("Etag", f.etag)
	h.Set("Cache-Control", "no-cache") // asked for again each time, and mostly not sent again
	h.Set("Content-Security-Policy", policy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Frame-Options", "DENY")
	http.ServeContent(w, q, name, time.Time{}, bytes.NewReader(f.body))
}

// policy lets the page load nothing but what its own node serves. It may open
// a WebSocket to any node: the room moves on when this one is gone.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self' ws: wss:" +
	"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
