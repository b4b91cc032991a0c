//go:build unix

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/peerservers/peerserver/protocol"
)

// trackerClient is a socket of one peer in one app.
type trackerClient struct {
	ws *websocket.Conn
	id string
}

func connect(t *testing.T, d description, app string, i int) *trackerClient {
	t.Helper()
	ws, _, err := websocket.DefaultDialer.Dial(d.WS, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.Close() })
	c := &trackerClient{ws, fmt.Sprintf("peer %15d", i)}
	c.announce(t, app)
	return c
}

// announce returns the number of peers that the node knows of.
func (c *trackerClient) announce(t *testing.T, app string) int {
	t.Helper()
	m, err := json.Marshal(map[string]any{"action": "announce", "info_hash": app, "peer_id": c.id, "left": 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.ws.WriteMessage(websocket.TextMessage, m); err != nil {
		t.Fatal(err)
	}
	var reply struct{ Complete, Incomplete int }
	if err := c.ws.ReadJSON(&reply); err != nil {
		t.Fatal(err)
	}
	return reply.Complete + reply.Incomplete
}

// ending is how a client's connection ended.
type ending struct {
	code int
	at   time.Time
}

// endings reads from all clients until they are closed.
func endings(clients []*trackerClient) (list []ending, all *sync.WaitGroup) {
	list, all = make([]ending, len(clients)), new(sync.WaitGroup)
	for i, c := range clients {
		all.Go(func() {
			for {
				if _, _, err := c.ws.ReadMessage(); err != nil {
					list[i] = ending{at: time.Now()}
					if e := new(websocket.CloseError); errors.As(err, &e) {
						list[i].code = e.Code
					}
					return
				}
			}
		})
	}
	return list, all
}

// A node that gets SIGTERM tells its clients and the other nodes, takes no new
// ones, spreads the closing of those it has, and ends well.
func TestDrain(t *testing.T) {
	a, onA := startNode(t)
	_, onB := startNode(t, "--peer", onA.URL)
	const shared, other = "an app of both nodes", "an app of one node.."
	clients := make([]*trackerClient, 0, 400)
	for i := range cap(clients) {
		app := other
		if i < 40 {
			app = shared
		}
		clients = append(clients, connect(t, onA, app, i))
	}
	b := connect(t, onB, shared, 999)
	eventually(t, "node B does not count the peers on A", func() bool { return b.announce(t, shared) == 41 })

	closed, all := endings(clients)
	began := time.Now()
	a.signal(syscall.SIGTERM)
	var health struct{ Status string }
	eventually(t, "the node does not say that it drains", func() bool {
		return ask(t, onA.URL+"/health", &health) == http.StatusServiceUnavailable && health.Status == "draining"
	})
	for _, path := range []string{"/", "/announce", "/link"} {
		_, answer, err := websocket.DefaultDialer.Dial(onA.WS+path, nil)
		if err == nil || answer == nil || answer.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("a newcomer at %s of a node that drains: %v %v, want 503", path, answer, err)
		}
	}
	var links struct{ Links []struct{ Up, Draining bool } }
	eventually(t, "node B is not told that A will stop before it does", func() bool {
		ask(t, onB.Admin+"/links.json", &links)
		return len(links.Links) == 1 && links.Links[0].Draining && links.Links[0].Up
	})
	all.Wait()
	eventually(t, "node B counts peers that are gone", func() bool { return b.announce(t, shared) == 1 })
	first, last := closed[0].at, closed[0].at
	for i, c := range closed {
		if c.code != protocol.CloseServiceRestart {
			t.Fatalf("client %d was closed with %d, want %d", i, c.code, protocol.CloseServiceRestart)
		}
		if c.at.Before(first) {
			first = c.at
		}
		if c.at.After(last) {
			last = c.at
		}
	}
	// They were closed one after the other, and 400 take at least a second.
	if spread := last.Sub(first); spread < time.Second {
		t.Errorf("all clients were closed within %v", spread)
	}
	if took := last.Sub(began); took > 5*protocol.ClientDrain {
		t.Errorf("the last client was closed after %v", took)
	}
	a.ends()
	if code := a.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("ended with %v: %s", a.cmd.ProcessState, a.errs.String())
	}
	if strings.Contains(a.errs.String(), "127.0.0.1") {
		t.Errorf("an address is logged: %s", a.errs.String())
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	p, d := startNode(t)
	clients := make([]*trackerClient, 0, 200)
	for i := range cap(clients) {
		clients = append(clients, connect(t, d, "an app of one node..", i))
	}
	p.signal(syscall.SIGTERM)
	_, all := endings(clients)
	// Draining 200 clients takes a second from here.
	var health struct{ Status string }
	eventually(t, "the node does not drain", func() bool {
		return ask(t, d.URL+"/health", &health) == http.StatusServiceUnavailable
	})
	p.signal(syscall.SIGTERM)
	p.ends()
	all.Wait()
	if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() || status.Signal() != syscall.SIGTERM {
		t.Errorf("ended with %v, want by the signal", p.cmd.ProcessState)
	}
}
