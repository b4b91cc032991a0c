package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/gorilla/websocket"

	"github.com/peerservers/peerserver/protocol"
)

const pongWithin = 5 * time.Second

// subprotocols are what is asked for at a path; others have none.
func subprotocols(path string) []string {
	switch path {
	case "/v1":
		return []string{"peerserver.v1"}
	case "/link":
		return []string{"peerserver.link.1"}
	}
	return nil
}

// answered is what came in place of a WebSocket; the zero value: nothing.
type answered struct {
	status int
	server string // as it calls itself
}

// dial opens a WebSocket, or says what was answered.
func (s *subject) dial(ctx context.Context, path string) (*websocket.Conn, answered, error) {
	d := websocket.Dialer{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: s.lenient(), HandshakeTimeout: stepWithin, Subprotocols: subprotocols(path),
	}
	ws, answer, err := d.DialContext(ctx, s.path(s.ws(), path), nil)
	if answer == nil {
		return nil, answered{}, err
	}
	answer.Body.Close()
	if err != nil {
		return nil, answered{answer.StatusCode, answer.Header.Get("Server")}, err
	}
	ws.SetReadLimit(2 * protocol.MaxMessage)
	return ws, answered{}, nil
}

// checkWebSocket looks at what is between here and the node: whether it lets
// WebSockets through at the paths of clients, peers and other nodes, and leaves
// them as they are.
func (s *subject) checkWebSocket(ctx context.Context) []Finding {
	paths := []string{"/", "/link"}
	if s.stats == nil || s.stats.Doors["peer"] != nil {
		paths = append(paths, "/v1")
	}
	var opened []string
	for _, path := range paths {
		ws, answer, err := s.dial(ctx, path)
		if err != nil {
			return one(notOpened(path, answer, err, len(opened) > 0))
		}
		ws.Close()
		opened = append(opened, path)
	}
	found := one(ok("WebSockets open at %s.", strings.Join(opened, ", ")))
	return append(found, s.checkFrames(ctx)...)
}

// notOpened says why a WebSocket was not opened, where others were or were not. A
// node answers a plain request with a page, or with 404 or 400 where it has only
// WebSockets: that is how a proxy shows that does not forward Upgrade.
func notOpened(path string, answer answered, err error, others bool) Finding {
	by := ""
	if answer.server != "" {
		by = " (" + answer.server + ")"
	}
	switch status := answer.status; {
	case status == 0:
		return bad(WSFailed, "No WebSocket opens at %s: %s.", path, why(err))
	case status == http.StatusBadGateway || status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout:
		return bad(ProxyNoNode, "No WebSocket opens at %s: it answers %d%s.", path, status, by)
	case status == http.StatusForbidden || status == http.StatusUnauthorized:
		return bad(NodeDenied, "No WebSocket opens at %s: it answers %d%s.", path, status, by)
	case others:
		return bad(WSPath, "No WebSocket opens at %s: it answers %d%s, while / opens one.", path, status, by)
	case status/100 == 2 || status == http.StatusNotFound || status == http.StatusUpgradeRequired || status == http.StatusBadRequest:
		return bad(WSUpgrade, "No WebSocket opens at %s: it answers %d%s, as if Upgrade had not been asked for.", path, status, by)
	default:
		return bad(WSFailed, "No WebSocket opens at %s: it answers %d%s.", path, status, by)
	}
}

// checkFrames has the node answer a ping, a large message, and a ping after some
// quiet.
func (s *subject) checkFrames(ctx context.Context) (found []Finding) {
	ws, _, err := s.dial(ctx, "/")
	if err != nil {
		return one(bad(WSFailed, "A second WebSocket does not open: %s.", why(err)))
	}
	defer ws.Close()
	pongs, texts, ended := make(chan struct{}, 8), make(chan []byte, 8), make(chan error, 1)
	ws.SetPongHandler(func(string) error {
		pongs <- struct{}{}
		return nil
	})
	s.running.Go(func() { // ended by Close
		for {
			_, b, err := ws.ReadMessage()
			if err != nil {
				ended <- err
				return
			}
			select {
			case texts <- b:
			default:
			}
		}
	})
	f := frames{ctx: ctx, ws: ws, pongs: pongs, texts: texts, ended: ended}
	if err := f.ping(); err != nil {
		return one(bad(WSPong, "A WebSocket opens, and no ping is answered: %s.", why(err)))
	}
	found = append(found, s.checkLarge(&f))
	if err := f.quiet(s.opts.Idle); err != nil {
		return append(found, bad(WSIdle, "A WebSocket that is quiet for %s is closed: %s.", s.opts.Idle, why(err)))
	}
	return append(found, ok("A WebSocket lives that is quiet for %s.", s.opts.Idle))
}

// checkLarge sends the largest message that a client may send. Only the door of
// WebTorrent clients answers one that does nothing.
func (s *subject) checkLarge(f *frames) Finding {
	if s.stats == nil || s.stats.Doors["tracker"] == nil {
		return bad(NotTried, "A ping is answered. Large messages are not tried: no door for trackers' clients is known.")
	}
	b, err := json.Marshal(map[string]any{"action": "doctor", "pad": string(bytes.Repeat([]byte{'x'}, protocol.MaxMessage-64))})
	if err == nil {
		err = f.large(b)
	}
	if err != nil {
		return bad(WSLarge, "A message of %d bytes is not answered: %s.", len(b), why(err))
	}
	return ok("A ping is answered, and a message of %d bytes.", len(b))
}

// frames is a WebSocket that is read.
type frames struct {
	ctx   context.Context //nolint:containedctx // of one check
	ws    *websocket.Conn
	pongs chan struct{}
	texts chan []byte
	ended chan error
}

var errNoPong = errors.New("there was no answer in time")

func (f *frames) ping() error {
	if err := f.ws.WriteControl(websocket.PingMessage, []byte("doctor"), time.Now().Add(pongWithin)); err != nil {
		return err
	}
	return f.wait(func(late <-chan time.Time) error {
		select {
		case <-f.pongs:
			return nil
		case err := <-f.ended:
			return err
		case <-late:
			return errNoPong
		case <-f.ctx.Done():
			return f.ctx.Err()
		}
	})
}

func (f *frames) wait(until func(<-chan time.Time) error) error {
	late := time.NewTimer(pongWithin)
	defer late.Stop()
	return until(late.C)
}

func (f *frames) large(b []byte) error {
	if err := f.ws.SetWriteDeadline(time.Now().Add(pongWithin)); err != nil {
		return err
	}
	if err := f.ws.WriteMessage(websocket.TextMessage, b); err != nil {
		return err
	}
	return f.wait(func(late <-chan time.Time) error {
		select {
		case <-f.texts:
			return nil
		case err := <-f.ended:
			return fmt.Errorf("the connection ended: %w", err)
		case <-late:
			return errNoPong
		case <-f.ctx.Done():
			return f.ctx.Err()
		}
	})
}

// quiet says nothing for a while, and then pings.
func (f *frames) quiet(d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case err := <-f.ended:
		return err
	case <-f.ctx.Done():
		return f.ctx.Err()
	}
	return f.ping()
}
