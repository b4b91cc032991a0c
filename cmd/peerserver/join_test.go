package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/peerservers/peerserver/peer"
	nets "github.com/peerservers/peerserver/testnet"
)

// joined is one run of the command.
type joined struct {
	t      *testing.T
	in     io.WriteCloser
	events chan chatEvent
	errs   lockedBuffer
	code   chan int
}

func joins(t *testing.T, args ...string) *joined {
	t.Helper()
	in, w := io.Pipe()
	r, out := io.Pipe()
	j := &joined{t: t, in: w, events: make(chan chatEvent, 64), code: make(chan int, 1)}
	go func() {
		code := run(context.Background(), append([]string{"join", "--json", "--loopback"}, args...), streams{in, out, &j.errs})
		out.Close()
		j.code <- code
	}()
	go func() {
		defer close(j.events)
		for s := bufio.NewScanner(r); s.Scan(); {
			var e chatEvent
			if json.Unmarshal(s.Bytes(), &e) == nil {
				j.events <- e
			}
		}
	}()
	return j
}

func (j *joined) sees(event string) chatEvent {
	j.t.Helper()
	for {
		select {
		case e, ok := <-j.events:
			if !ok {
				j.t.Fatalf("it ended before %q: %s", event, j.errs.String())
			}
			if e.Event == event {
				return e
			}
		case <-time.After(25 * time.Second):
			j.t.Fatalf("no %q: %s", event, j.errs.String())
		}
	}
}

func (j *joined) ends() {
	j.t.Helper()
	j.in.Close()
	select {
	case code := <-j.code:
		if code != 0 {
			j.t.Errorf("exit status %d: %s", code, j.errs.String())
		}
	case <-time.After(25 * time.Second):
		j.t.Error("it did not end with its input")
	}
}

// TestJoin: two terminals on two nodes see each other and what the other says.
func TestJoin(t *testing.T) {
	net := nets.Start(t, 2)
	ada := joins(t, "--node", net.URL(0), "--name", "Ada", "--secret", "hunter2", "chess")
	bob := joins(t, "--node", net.URL(1), "--name", "Bob", "--secret", "hunter2", "chess")
	me := ada.sees("joined")
	if e := ada.sees("peer"); e.Name != "Bob" || e.Way == nil || e.Way.Path != peer.PathDirect {
		t.Errorf("Ada sees %+v, want a direct way to Bob", e)
	}
	if e := bob.sees("peer"); e.Name != "Ada" || e.ID != me.ID || e.Session != me.Session {
		t.Errorf("Bob sees %+v, want %+v", e, me)
	}
	io.WriteString(ada.in, "hello Bob\n")
	if e := bob.sees("message"); e.Text != "hello Bob" || e.Name != "Ada" {
		t.Errorf("Bob hears %+v", e)
	}
	io.WriteString(bob.in, "hello Ada\n")
	if e := ada.sees("message"); e.Text != "hello Ada" {
		t.Errorf("Ada hears %+v", e)
	}
	bob.ends()
	if e := ada.sees("leave"); e.Name != "Bob" {
		t.Errorf("Ada sees %+v leave", e)
	}
	ada.ends()
}

// TestListenAndDial: one listens, and two who are given its address meet it and
// not each other.
func TestListenAndDial(t *testing.T) {
	net := nets.Start(t, 1)
	server := joins(t, "--node", net.URL(0), "--name", "server", "--listen")
	me := server.sees("joined")
	if len(me.Addresses) == 0 || me.Addresses[0].Peer != me.ID || me.Addresses[0].URL() != net.URL(0) {
		t.Fatalf("the addresses are %v", me.Addresses)
	}
	ada := joins(t, "--name", "Ada", me.Addresses[0].String())
	if e := ada.sees("peer"); e.Name != "server" || e.ID != me.ID {
		t.Errorf("Ada sees %+v", e)
	}
	bob := joins(t, "--name", "Bob", me.Addresses[0].String())
	if e := bob.sees("peer"); e.Name != "server" {
		t.Errorf("Bob sees %+v", e)
	}
	server.sees("peer")
	server.sees("peer")
	io.WriteString(bob.in, "hello\n")
	if e := server.sees("message"); e.Text != "hello" || e.Name != "Bob" {
		t.Errorf("the server hears %+v", e)
	}
	ada.ends()
	if e := server.sees("leave"); e.Name != "Ada" {
		t.Errorf("the server sees %+v leave", e)
	}
	bob.ends()
	server.ends()
}

// TestJoinSaysWhatIsWrong: no app, and a node that is none.
func TestJoinSaysWhatIsWrong(t *testing.T) {
	for _, c := range []struct{ args, says string }{
		{"", "name one app"},
		{"--listen chess", "chess"},
		{"/dns4/a.example/tcp/443/wss/p2p-webrtc-signal/x/p2p/y", "node id"},
		{"--node ws://127.0.0.1:1 chess", "127.0.0.1:1"},
	} {
		var out, errs bytes.Buffer
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		if code := run(ctx, append([]string{"join"}, strings.Fields(c.args)...), streams{strings.NewReader(""), &out, &errs}); code == 0 || !strings.Contains(errs.String(), c.says) {
			t.Errorf("join %s: exit status %d and %q, want an error with %q", c.args, code, errs.String(), c.says)
		}
		cancel()
	}
}

// What another peer says does nothing to the terminal.
func TestPrintable(t *testing.T) {
	if got := printable("a\x1b[2Jb\nc\u009b"); got != "a\ufffd[2Jb\ufffdc\ufffd" {
		t.Errorf("%q", got)
	}
}
