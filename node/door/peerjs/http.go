package peerjs

import (
	"encoding/json"
	"io"
	"net/http"
)

// usualKey is a client's key when it names none.
const usualKey = "peerjs"

// description is what the reference server says of itself.
const description = `{"name":"PeerJS Server","description":"A server side element to broker connections between PeerJS clients.","website":"https://peerjs.com/"}`

// Describe answers what a PeerJS server answers at its path, which at the root
// of a node is the page as well.
func Describe(w http.ResponseWriter, q *http.Request) {
	answer(w, q, "application/json; charset=utf-8", http.StatusOK, description)
}

// id gives a new id. It asks nobody: nobody else makes up ids with this tag.
func (d *Door) id(w http.ResponseWriter, q *http.Request) {
	answer(w, q, "text/html; charset=utf-8", http.StatusOK, issueID(d.tag))
}

// peers lists the ids of a key, on all nodes that list them.
func (d *Door) peers(w http.ResponseWriter, q *http.Request, key string) {
	l := d.directories[key]
	if l == nil || l.watch(d.cfg.Relay) != nil {
		answer(w, q, "text/plain; charset=utf-8", http.StatusUnauthorized, http.StatusText(http.StatusUnauthorized))
		return
	}
	if !l.settle(q.Context()) {
		return
	}
	b, _ := json.Marshal(l.list()) // of strings
	answer(w, q, "application/json; charset=utf-8", http.StatusOK, string(b))
}

// answer writes a response that pages of any origin may read, in the words of
// the reference server.
func answer(w http.ResponseWriter, q *http.Request, kind string, status int, body string) {
	h := w.Header()
	if origin := q.Header.Get("Origin"); origin != "" {
		h.Set("Access-Control-Allow-Origin", origin)
	}
	h.Add("Vary", "Origin")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", kind)
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}
