package peer

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/peerservers/peerserver/protocol"
)

// maxCache bounds the file of Options.Cache, which is read whole.
const maxCache = 32 << 10

// cachedNode is a node that was learnt, in the file of Options.Cache.
type cachedNode struct {
	URL  string          `json:"url"`
	Node protocol.NodeID `json:"node"` // which it has to prove
}

// recall adds the nodes that an earlier run has learnt, after all others. A file
// that is not ours is as good as none.
func (h *homes) recall(file string) error {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxCache))
	if err != nil {
		return err
	}
	var list []cachedNode
	if json.Unmarshal(b, &list) != nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range list {
		if _, err := protocol.ParseLinkURL(c.URL); err == nil {
			h.add(c.URL, c.Node)
		}
	}
	return nil
}

// keep writes the nodes that were learnt, if there is anything new.
func (h *homes) keep(file string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var list []cachedNode
	for _, u := range h.urls {
		if node, learnt := h.nodes[u]; learnt {
			list = append(list, cachedNode{u, node})
		}
	}
	b, err := json.MarshalIndent(list, "", "  ")
	if err != nil || len(list) == 0 || len(b) > maxCache || bytes.Equal(b, h.kept) {
		return err
	}
	// Whoever reads it meanwhile reads the old one.
	next := file + ".new"
	if err := os.WriteFile(next, b, 0o600); err != nil {
		return err
	}
	h.kept = b
	return os.Rename(next, file)
}

// add adds a node that somebody has named. mu is held.
func (h *homes) add(u string, node protocol.NodeID) {
	if !h.fixed && !slices.Contains(h.urls, u) && (h.insecure || strings.HasPrefix(u, "wss://")) && h.makeRoom() {
		h.urls, h.nodes[u] = append(h.urls, u), node
	}
}
