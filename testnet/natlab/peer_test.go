//go:build linux

package natlab_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/peerservers/peerserver/peer"
)

// event is what the program "peer" prints, a line each.
type event struct {
	Event  string // joined, peer, path, leave, message, progress, done or sent
	At     time.Time
	Way    *way   `json:",omitempty"` // in peer and path
	Text   string `json:",omitempty"` // in message
	Bytes  int    `json:",omitempty"` // that have come; in sent, that went
	Hash   string `json:",omitempty"` // in done and sent, of all of them
	Broken string `json:",omitempty"` // what is wrong with them
}

// way is a peer.Way as it is read again.
type way struct {
	Path, Transport, Server string
	NoDirect                string `json:"no_direct"`
	NoTURN                  string `json:"no_turn"`
}

func wayOf(p *peer.Peer) *way {
	w := p.Way()
	return &way{w.Path.String(), w.Transport, w.Server, string(w.NoDirect), string(w.NoTURN)}
}

const (
	pieceSize = 16 << 10 // of a transfer
	perSecond = 64       // pieces, which is 1 MiB: half of what a node relays for a peer
)

// member is the program "peer": a member of an app that says hello to whom it
// meets, prints what happens, and sends to all what standard input asks for:
// "send N" is N pieces.
type member struct {
	mu    sync.Mutex
	out   *json.Encoder
	came  transfer
	peers map[*peer.Peer]struct{}
}

func memberProgram(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("peer", flag.ContinueOnError)
	node, app := fs.String("node", "", "its URL"), fs.String("app", "", "to join")
	ca := fs.String("ca", "", "file of who is believed as to certificates")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if err := os.Setenv("SSL_CERT_FILE", *ca); err != nil {
		return err
	}
	m := &member{out: json.NewEncoder(os.Stdout), peers: make(map[*peer.Peer]struct{})}
	room, err := peer.Join(ctx, *app, peer.Options{
		Nodes:     []string{*node},
		Log:       slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})),
		OnPeer:    func(p *peer.Peer) { m.meets(ctx, p) },
		OnPath:    func(p *peer.Peer) { m.print(event{Event: "path", Way: wayOf(p)}) },
		OnLeave:   func(p *peer.Peer) { m.loses(p) },
		OnMessage: func(p *peer.Peer, b []byte) { m.hears(p, b) },
	})
	if err != nil {
		return err
	}
	m.print(event{Event: "joined"})
	failed := make(chan error, 1)
	// It ends with the process: a read of standard input cannot be called off.
	go func() {
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			var n int
			if _, err := fmt.Sscanf(lines.Text(), "send %d", &n); err != nil {
				failed <- err
				return
			}
			if err := m.send(ctx, n); err != nil {
				failed <- err
				return
			}
		}
	}()
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return errors.Join(err, room.Leave(leaving))
}

func (m *member) print(e event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e.At = time.Now()
	_ = m.out.Encode(e)
}

func (m *member) meets(ctx context.Context, p *peer.Peer) {
	m.mu.Lock()
	m.peers[p] = struct{}{}
	m.mu.Unlock()
	m.print(event{Event: "peer", Way: wayOf(p)})
	_ = p.Send(ctx, []byte("hello"))
}

func (m *member) loses(p *peer.Peer) {
	m.mu.Lock()
	delete(m.peers, p)
	m.mu.Unlock()
	m.print(event{Event: "leave"})
}

// hears takes a message: text, or a piece.
func (m *member) hears(p *peer.Peer, b []byte) {
	if len(b) != pieceSize {
		m.print(event{Event: "message", Text: string(b)})
		return
	}
	if e, ok := m.came.take(b); ok {
		m.print(e)
	}
}

// send sends pieces to the one peer that there is. Each has its number and the
// number of all in front.
func (m *member) send(ctx context.Context, n int) error {
	m.mu.Lock()
	all := make([]*peer.Peer, 0, len(m.peers))
	for p := range m.peers {
		all = append(all, p)
	}
	m.mu.Unlock()
	if len(all) != 1 {
		return fmt.Errorf("there are %d peers to send to", len(all))
	}
	hash := sha256.New()
	bytes := rand.NewChaCha8([32]byte{})
	tick := time.NewTicker(time.Second / perSecond)
	defer tick.Stop()
	for i := range n {
		piece := make([]byte, pieceSize)
		_, _ = bytes.Read(piece)
		binary.BigEndian.PutUint32(piece, uint32(i))
		binary.BigEndian.PutUint32(piece[4:], uint32(n))
		hash.Write(piece)
		if err := all[0].Send(ctx, piece); err != nil {
			return err
		}
		<-tick.C
	}
	m.print(event{Event: "sent", Bytes: n * pieceSize, Hash: hex.EncodeToString(hash.Sum(nil))})
	return nil
}

// transfer is what has come of one, piece by piece. Handlers are called one at a
// time for each peer, and there is one peer.
type transfer struct {
	next   uint32
	all    []byte
	broken string
	told   time.Time
}

// take takes a piece, and returns what is to be printed of it.
func (t *transfer) take(piece []byte) (e event, ok bool) {
	i, n := binary.BigEndian.Uint32(piece), binary.BigEndian.Uint32(piece[4:])
	if i != t.next && t.broken == "" {
		t.broken = fmt.Sprintf("piece %d comes where %d is due", i, t.next)
	}
	t.next = i + 1
	t.all = append(t.all, piece...)
	e = event{Event: "progress", Bytes: len(t.all), Broken: t.broken}
	if i+1 == n {
		hash := sha256.Sum256(t.all)
		e.Event, e.Hash = "done", hex.EncodeToString(hash[:])
		return e, true
	}
	if time.Since(t.told) < 50*time.Millisecond {
		return e, false
	}
	t.told = time.Now()
	return e, true
}

// is says whether an event is one of some kinds.
func is(kinds ...string) func(event) bool {
	return func(e event) bool { return slices.Contains(kinds, e.Event) }
}
