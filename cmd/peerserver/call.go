package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/peerservers/peerserver/peer"
	"github.com/peerservers/peerserver/protocol"
)

// caller is one run of the command call.
type caller struct {
	path    string
	args    any
	to      target
	stream  bool
	timeout time.Duration // of each call; 0: a call's own
	json    bool

	mu       sync.Mutex
	out, err io.Writer
	several  bool // peers are called
}

// callEvent is what --json prints, a line each.
type callEvent struct {
	Peer     protocol.PeerID `json:"peer"`
	Session  string          `json:"session"`
	Name     string          `json:"name,omitempty"`
	Progress bool            `json:"progress,omitempty"` // what follows is how far it is
	Value    json.RawMessage `json:"value,omitempty"`
	Bytes    *[]byte         `json:"bytes,omitempty"` // base64, of a value that is no JSON
	Error    *callError      `json:"error,omitempty"`
	Done     bool            `json:"done,omitempty"` // nothing more comes of this peer
}

type callError struct {
	Code  string          `json:"code"`
	Text  string          `json:"text"`
	Data  json.RawMessage `json:"data,omitempty"`
	Bytes *[]byte         `json:"bytes,omitempty"` // base64, of data that is no JSON
}

func callCommand(fs *flag.FlagSet) func(context.Context, streams) error {
	var m membership
	m.flags(fs)
	var c caller
	fs.BoolVar(&c.stream, "stream", false, "print the values of a stream as they come")
	fs.BoolVar(&c.json, "json", false, "print a line of JSON for each value, error and report of progress")
	fs.DurationVar(&c.timeout, "timeout", 0, "give a call up after this `time`; 30s if none is given, and with --stream never")
	wait := fs.Duration("wait", 10*time.Second, "`time` for those who are called to be there and connected")
	level := logFlag(fs)
	return func(ctx context.Context, s streams) error {
		if fs.NArg() != 3 && fs.NArg() != 4 {
			return errors.New("name an app, whom to call in it, a command and, if it takes any, its arguments; see \"peerserver call --help\"")
		}
		c.to, c.path = target(fs.Arg(1)), fs.Arg(2)
		var err error
		if c.args, err = readArgs(fs.Arg(3), s.in); err != nil {
			return err
		}
		c.out, c.err = s.out, s.err
		o := m.options()
		o.Log = newLog(s.err, level)
		return c.run(ctx, fs.Arg(0), o, *wait)
	}
}

// readArgs reads the arguments of a call: nil if there are none.
func readArgs(arg string, in io.Reader) (any, error) {
	text := []byte(arg)
	switch arg {
	case "":
		return nil, nil
	case "-":
		var err error
		if text, err = io.ReadAll(io.LimitReader(in, peer.MaxValue+1)); err != nil {
			return nil, fmt.Errorf("read the arguments from standard input: %w", err)
		}
	}
	if len(text) > peer.MaxValue {
		return nil, fmt.Errorf("the arguments are over %d bytes", peer.MaxValue)
	}
	if !json.Valid(text) {
		return nil, fmt.Errorf("the arguments are not JSON; a text needs quotes of its own: '\"hello\"'")
	}
	return json.RawMessage(text), nil
}

func (c *caller) run(ctx context.Context, app string, o peer.Options, wait time.Duration) error {
	arrived := make(chan struct{}, 1)
	o.OnPeer = func(*peer.Peer) {
		select {
		case arrived <- struct{}{}:
		default:
		}
	}
	room, err := peer.Join(ctx, app, o)
	if err != nil {
		return err
	}
	defer func() {
		leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = room.Leave(leaving) // the answers are here
	}()
	peers, err := c.to.await(ctx, room, arrived, wait)
	if err != nil {
		return err
	}
	return c.callAll(ctx, peers)
}

// callAll calls them at once, and fails if one of the calls does.
func (c *caller) callAll(ctx context.Context, peers []*peer.Peer) error {
	c.several = len(peers) > 1
	errs := make([]error, len(peers))
	var all sync.WaitGroup
	for i, p := range peers {
		all.Go(func() { errs[i] = c.call(ctx, p) })
	}
	all.Wait()
	failed := 0
	for i, err := range errs {
		if err != nil {
			failed++
			c.tell(peers[i], callEvent{Error: errorOf(err), Done: true})
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d calls have failed", failed, len(peers))
	}
	return nil
}

func (c *caller) call(ctx context.Context, p *peer.Peer) error {
	if c.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.timeout)
		defer cancel()
	}
	progress := peer.OnProgress(func(v peer.Value) { c.tell(p, eventOf(v, callEvent{Progress: true})) })
	if !c.stream {
		v, err := p.Call(ctx, c.path, c.args, progress)
		if err == nil {
			c.tell(p, eventOf(v, callEvent{Done: true}))
		}
		return err
	}
	for v, err := range p.Stream(ctx, c.path, c.args, progress) {
		if err != nil {
			return err
		}
		c.tell(p, eventOf(v, callEvent{}))
	}
	if c.json {
		c.tell(p, callEvent{Done: true})
	}
	return nil
}

func eventOf(v peer.Value, e callEvent) callEvent {
	if e.Value = v.JSON; v.Bytes != nil {
		e.Bytes = &v.Bytes
	}
	return e
}

func errorOf(err error) *callError {
	e := &callError{Code: peer.CodeFailed, Text: err.Error()}
	if remote, ok := errors.AsType[*peer.RemoteError](err); ok {
		data := eventOf(remote.Data, callEvent{})
		return &callError{remote.Code, remote.Text, data.Value, data.Bytes}
	}
	if here, ok := errors.AsType[*protocol.Error](err); ok {
		e.Code = here.Code.String()
	}
	for code, is := range map[string]error{"gone": peer.ErrGone, peer.CodeTimeout: context.DeadlineExceeded, peer.CodeCancelled: context.Canceled} {
		if errors.Is(err, is) {
			e.Code = code
		}
	}
	return e
}

// tell prints an event: values to standard output, and all else, without
// --json, to standard error.
func (c *caller) tell(p *peer.Peer, e callEvent) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.json {
		session := p.Session()
		e.Peer, e.Session, e.Name = p.ID(), hex.EncodeToString(session[:]), p.Name()
		if b, err := json.Marshal(e); err == nil {
			fmt.Fprintf(c.out, "%s\n", b)
		}
		return
	}
	who := ""
	if c.several {
		who = shown(p) + ": "
	}
	switch {
	case e.Error != nil:
		fmt.Fprintf(c.err, "%s%s: %s\n", who, printable(e.Error.Code), printable(e.Error.Text))
	case e.Progress:
		fmt.Fprintf(c.err, "%s... %s\n", who, e.text())
	case e.Bytes != nil && !c.several && !isTerminal(c.out):
		_, _ = c.out.Write(*e.Bytes)
	case e.Bytes != nil || e.Value != nil:
		fmt.Fprintf(c.out, "%s%s\n", who, e.text())
	case c.several:
		fmt.Fprintln(c.out, who+"done")
	}
}

// text is a value on one line of a terminal.
func (e *callEvent) text() string {
	if e.Bytes != nil {
		return fmt.Sprintf("%d bytes; --json shows them", len(*e.Bytes))
	}
	var line bytes.Buffer
	_ = json.Compact(&line, e.Value) // which is JSON
	return printable(line.String())
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
