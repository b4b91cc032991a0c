package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/peerservers/peerserver/peer"
	"github.com/peerservers/peerserver/protocol"
)

// chat is a membership in a terminal: lines of standard input go to everybody.
type chat struct {
	json   bool
	listen bool

	mu  sync.Mutex
	out io.Writer
}

// chatEvent is what --json prints of all that happens, a line each.
type chatEvent struct {
	Event   string          `json:"event"` // joined, peer, path, leave or message
	ID      protocol.PeerID `json:"id"`    // of this peer in joined, else of the other
	Session string          `json:"session"`
	Name    string          `json:"name,omitempty"`
	Text    string          `json:"text,omitempty"` // of a message that is text
	Data    string          `json:"data,omitempty"` // base64, of one that is not
	Way     *peer.Way       `json:"way,omitempty"`  // in peer and path: how the other is reached

	Addresses []protocol.Address `json:"addresses,omitempty"` // in joined, of one that listens
}

func joinCommand(fs *flag.FlagSet) func(context.Context, streams) error {
	var c chat
	var m membership
	m.flags(fs)
	fs.BoolVar(&c.json, "json", false, "print a line of JSON for all that happens")
	fs.BoolVar(&c.listen, "listen", false, "join no app, but listen: print an address, and meet those who join that")
	level := logFlag(fs)
	return func(ctx context.Context, s streams) error {
		if c.listen && fs.NArg() > 0 {
			return fmt.Errorf("%q is not joined by one who listens; leave it or --listen out", fs.Arg(0))
		}
		if !c.listen && fs.NArg() != 1 {
			return errors.New("name one app, any name that its peers have agreed on; see \"peerserver join --help\"")
		}
		c.out = s.out
		o := m.options()
		o.Log = newLog(s.err, level)
		return c.run(ctx, s, fs.Arg(0), o)
	}
}

func (c *chat) run(ctx context.Context, s streams, app string, o peer.Options) error {
	o.OnPeer = func(p *peer.Peer) { c.tellWay("peer", p, "is here") }
	o.OnPath = func(p *peer.Peer) { c.tellWay("path", p, "goes another way") }
	o.OnLeave = func(p *peer.Peer) { c.print(deedOf("leave", p), fmt.Sprintf("* %s has left", shown(p))) }
	o.OnMessage = func(p *peer.Peer, b []byte) { c.tellMessage(p, string(b)) }
	if !c.json {
		fmt.Fprintln(s.err, "joining ...")
	}
	room, err := c.enter(ctx, app, o)
	if err != nil {
		return err
	}
	self, at := room.Session(), room.Addresses()
	text := []string{fmt.Sprintf("you are %s; what you type goes to all who are here, and ctrl-D leaves", room.ID().Short())}
	for _, a := range at {
		text = append(text, "you are reached with: peerserver join "+a.String())
	}
	c.print(chatEvent{Event: "joined", ID: room.ID(), Session: hex.EncodeToString(self[:]), Addresses: at}, strings.Join(text, "\n"))
	lines := make(chan string)
	// It ends with the process: a read of standard input cannot be called off.
	go readLines(ctx, s.in, lines)
	err = c.say(ctx, room, lines)
	leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if e := room.Leave(leaving); !errors.Is(e, context.DeadlineExceeded) { // what is left of it ends with the process
		err = errors.Join(err, e)
	}
	return err
}

// enter joins an app, or dials a peer by its address, or is one to be dialled.
func (c *chat) enter(ctx context.Context, app string, o peer.Options) (*peer.Room, error) {
	if c.listen {
		return peer.Listen(ctx, o)
	}
	if !strings.Contains(app, "/p2p-webrtc-signal/") {
		return peer.Join(ctx, app, o)
	}
	p, err := peer.Dial(ctx, app, o)
	if err != nil {
		return nil, err
	}
	return p.Room(), nil
}

func (c *chat) say(ctx context.Context, room *peer.Room, lines <-chan string) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case line, ok := <-lines:
			if !ok {
				return nil
			}
			if err := room.Broadcast(ctx, []byte(line)); err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
}

func readLines(ctx context.Context, r io.Reader, lines chan<- string) {
	defer close(lines)
	in := bufio.NewScanner(r)
	in.Buffer(make([]byte, 4096), peer.MaxMessage)
	for in.Scan() {
		select {
		case lines <- in.Text():
		case <-ctx.Done():
			return
		}
	}
}

// deedOf is something that another peer did.
func deedOf(event string, p *peer.Peer) chatEvent {
	session := p.Session()
	return chatEvent{Event: event, ID: p.ID(), Session: hex.EncodeToString(session[:]), Name: p.Name()}
}

// tellWay prints how a peer is reached.
func (c *chat) tellWay(event string, p *peer.Peer, what string) {
	w, e := p.Way(), deedOf(event, p)
	e.Way = &w
	c.print(e, fmt.Sprintf("* %s %s, %s", shown(p), what, wayText(w)))
}

// wayText says how a peer is reached, and why not in a better way.
func wayText(w peer.Way) string {
	switch w.Path {
	case peer.PathDirect:
		return "directly"
	case peer.PathTURN:
		if w.Transport == "" {
			return fmt.Sprintf("over its TURN server (direct: %s)", w.NoDirect)
		}
		return fmt.Sprintf("over a TURN server by %s (direct: %s)", strings.ToUpper(w.Transport), w.NoDirect)
	}
	return fmt.Sprintf("over the nodes (direct: %s; TURN: %s)", w.NoDirect, w.NoTURN)
}

// tellMessage prints what a peer says.
func (c *chat) tellMessage(p *peer.Peer, said string) {
	e := deedOf("message", p)
	if e.Text = said; !utf8.ValidString(said) {
		e.Text, e.Data = "", base64.StdEncoding.EncodeToString([]byte(said))
		said = fmt.Sprintf("%d bytes", len(said))
	}
	c.print(e, fmt.Sprintf("%s: %s", shown(p), printable(said)))
}

// printable takes out what would do something to a terminal.
func printable(s string) string {
	out := []rune(s)
	for i, r := range out {
		if r < 0x20 || 0x7f <= r && r < 0xa0 {
			out[i] = '\ufffd'
		}
	}
	return string(out)
}

func (c *chat) print(e chatEvent, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.json {
		fmt.Fprintln(c.out, text)
		return
	}
	if b, err := json.Marshal(e); err == nil {
		fmt.Fprintf(c.out, "%s\n", b)
	}
}
