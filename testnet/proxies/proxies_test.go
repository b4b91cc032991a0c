package proxies

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"google.golang.org/protobuf/proto"

	"github.com/peerservers/peerserver/node"
	"github.com/peerservers/peerserver/protocol"
)

// dial opens a WebSocket through the proxy, from an address of loopback; the
// status tells of one that was refused.
func (p *proxy) dial(from, path string, header http.Header) (ws *websocket.Conn, status int) {
	p.t.Helper()
	return p.dialAt(fmt.Sprintf("127.0.0.1:%d", p.port), p.url(), from, path, header)
}

func (p *proxy) dialAt(addr, base, from, path string, header http.Header) (ws *websocket.Conn, status int) {
	p.t.Helper()
	d := websocket.Dialer{HandshakeTimeout: patience, TLSClientConfig: p.tls, NetDial: func(string, string) (net.Conn, error) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		return d.Dial("tcp", addr)
	}}
	if path == "/v1" {
		d.Subprotocols = []string{"peerserver.v1"}
	}
	ws, r, err := d.Dial(base+path, header)
	switch {
	case err == nil:
		p.t.Cleanup(func() { ws.Close() })
		return ws, http.StatusSwitchingProtocols
	case r != nil:
		return nil, r.StatusCode
	}
	return nil, 0 // it was closed
}

// hears reads until it is told something with want in it.
func hears(t *testing.T, ws *websocket.Conn, want string) {
	t.Helper()
	ws.SetReadDeadline(time.Now().Add(patience))
	for heard := ""; !strings.Contains(heard, want); {
		_, b, err := ws.ReadMessage()
		if err != nil {
			t.Fatalf("%v, after %.200q; want %.200q", err, heard, want)
		}
		heard += string(b) + "\n"
	}
}

func say(t *testing.T, ws *websocket.Conn, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if err := ws.WriteMessage(websocket.TextMessage, []byte(line)); err != nil {
			t.Fatal(err)
		}
	}
}

var trusted = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}

// Every door is reached through the proxies, large messages pass, pages come by
// HTTP/2, and the node's goodbye arrives.
func TestDoors(t *testing.T) {
	for _, k := range kinds() {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			p := k.start(t, node.Config{TrustedProxies: trusted}, nil)
			for _, d := range []struct{ path, says, hears string }{
				{"/announce", `{"action":"announce","info_hash":"aaaaaaaaaaaaaaaaaaaa","peer_id":"bbbbbbbbbbbbbbbbbbbb","numwant":0,"left":1,"offers":[]}`, `"interval":`},
				{"/peerjs?key=my-key&id=alice&token=0.12345", "", `{"type":"OPEN"}`},
				{"/y-webrtc", `{"type":"ping"}`, `{"type":"pong"}`},
				{"/ws-relay", `{"type":"subscribe","topic":"a"}` + "\n" + `{"type":"publish","topic":"a","payload":"x"}`, `"payload":"x"`},
				{"/rxdb", `{"type":"join","room":"my-room"}`, `"type":"joined"`},
				{"/matchbox/room", "", `{"IdAssigned":`},
				{"/", `{"type":"ping"}`, `{"type":"pong"}`},
			} {
				ws, status := p.dial("127.0.0.2", d.path, nil)
				if ws == nil {
					t.Errorf("%s: status %d", d.path, status)
					continue
				}
				if d.says != "" {
					say(t, ws, strings.Split(d.says, "\n")...)
				}
				hears(t, ws, d.hears)
			}
			p.native()
			p.large()
			p.page()
			p.goodbye()
		})
	}
}

// native logs in at the peer door, with the URL of the proxy.
func (p *proxy) native() {
	p.t.Helper()
	ws, status := p.dial("127.0.0.2", "/v1", nil)
	if ws == nil {
		p.t.Fatalf("/v1: status %d", status)
	}
	read := func() *protocol.ToPeer {
		ws.SetReadDeadline(time.Now().Add(patience))
		_, b, err := ws.ReadMessage()
		m := new(protocol.ToPeer)
		if err = errors.Join(err, proto.Unmarshal(b, m)); err != nil {
			p.t.Fatal(err)
		}
		return m
	}
	_, key, _ := ed25519.GenerateKey(nil)
	login := protocol.SignLogin(key, read().GetChallenge(), make([]byte, protocol.LoginNonce), p.url())
	seal, err := protocol.NewSealKey([32]byte{1})
	if err != nil {
		p.t.Fatal(err)
	}
	presence := protocol.PeerPresence{Seal: seal.Public(), Issued: time.Now(), TTL: time.Hour}
	app := protocol.App("peer", []byte("my-app"), nil)
	if err := protocol.SignPresence(key, app, &presence); err != nil {
		p.t.Fatal(err)
	}
	for _, m := range []*protocol.ToNode{
		{Ref: 1, Body: &protocol.ToNode_Login{Login: login}},
		{Ref: 2, Body: &protocol.ToNode_Join{Join: &protocol.Join{App: app[:], Presence: presence.Signed}}},
	} {
		b, err := proto.Marshal(m)
		if err = errors.Join(err, ws.WriteMessage(websocket.BinaryMessage, b)); err != nil {
			p.t.Fatal(err)
		}
	}
	for m := read(); m.GetJoined() == nil; m = read() {
		if m.GetRefused() != nil {
			p.t.Fatalf("/v1: refused: %v", m.GetRefused())
		}
	}
}

// large sends messages as large as the node takes, both ways.
func (p *proxy) large() {
	p.t.Helper()
	from, _ := p.dial("127.0.0.2", "/y-webrtc", nil)
	to, _ := p.dial("127.0.0.3", "/y-webrtc", nil)
	say(p.t, to, `{"type":"subscribe","topics":["large"]}`, `{"type":"ping"}`)
	hears(p.t, to, "pong")
	for i := range 20 {
		data := strings.Repeat(string(rune('a'+i)), protocol.MaxPayload-1000)
		say(p.t, from, `{"type":"publish","topic":"large","data":"`+data+`"}`)
		hears(p.t, to, data)
	}
}

// page loads a page by HTTP/2, as a browser does.
func (p *proxy) page() {
	p.t.Helper()
	client := http.Client{Timeout: patience, Transport: &http.Transport{
		TLSClientConfig: p.tls.Clone(), ForceAttemptHTTP2: true, DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", p.port))
		},
	}}
	for _, path := range []string{"/", "/sdk.js", "/stats.json", "/health"} {
		r, err := client.Get("https" + strings.TrimPrefix(p.url(), "wss") + path)
		if err != nil {
			p.t.Fatal(err)
		}
		b, err := io.ReadAll(r.Body)
		r.Body.Close()
		if r.ProtoMajor != 2 || r.StatusCode != http.StatusOK || len(b) == 0 || err != nil {
			p.t.Errorf("%s: %s %s, %d bytes, %v", path, r.Proto, r.Status, len(b), err)
		}
	}
}

// goodbye stops the node: its clients are told to go elsewhere.
func (p *proxy) goodbye() {
	p.t.Helper()
	ws, _ := p.dial("127.0.0.2", "/y-webrtc", nil)
	say(p.t, ws, `{"type":"ping"}`)
	hears(p.t, ws, "pong")
	ended := make(chan struct{})
	go func() { defer close(ended); p.stop() }()
	ws.SetReadDeadline(time.Now().Add(patience))
	_, _, err := ws.ReadMessage()
	if !websocket.IsCloseError(err, protocol.CloseServiceRestart) {
		p.t.Errorf("the end of the node: %v", err)
	}
	<-ended
}

// The quotas of an address are those of the client if the proxy is trusted, and
// the proxy's own if it is not. What clients write into the header changes nothing.
func TestAddresses(t *testing.T) {
	const most = 3
	forged := http.Header{"X-Forwarded-For": {"203.0.113.9"}}
	for _, k := range kinds() {
		t.Run(k.name+"/trusted", func(t *testing.T) {
			t.Parallel()
			p := k.start(t, node.Config{AddressConns: most, TrustedProxies: trusted}, nil)
			for _, from := range []string{"127.0.0.2", "127.0.0.3"} {
				for i := range most {
					if ws, status := p.dial(from, "/y-webrtc", nil); ws == nil {
						t.Errorf("client %d of %s: status %d", i, from, status)
					}
				}
				for _, header := range []http.Header{nil, forged} {
					if ws, status := p.dial(from, "/y-webrtc", header); ws != nil || status != http.StatusTooManyRequests {
						t.Errorf("one more of %s with %v: status %d", from, header, status)
					}
				}
			}
			// Beside the proxy, the header is only words: it takes no room of others.
			direct := p.node.Addr().String()
			for i := range most + 1 {
				header := http.Header{"X-Forwarded-For": {"127.0.0.5"}}
				if ws, _ := p.dialAt(direct, "ws://"+direct, "127.0.0.4", "/y-webrtc", header); (ws != nil) != (i < most) {
					t.Errorf("client %d beside the proxy: let in: %v", i, ws != nil)
				}
				if ws, status := p.dial("127.0.0.5", "/y-webrtc", nil); (ws != nil) != (i < most) {
					t.Errorf("client %d of an address that others name: status %d", i, status)
				}
			}
		})
		t.Run(k.name+"/not trusted", func(t *testing.T) {
			t.Parallel()
			p := k.start(t, node.Config{AddressConns: most}, nil)
			for i := range most + 1 {
				ws, status := p.dial(fmt.Sprintf("127.0.0.%d", 2+i), "/y-webrtc", forged)
				if (ws != nil) != (i < most) {
					t.Errorf("client %d: status %d", i, status)
				}
			}
		})
	}
}

// A client that says nothing is not cut off: the node pings it more often than
// the proxies' timeouts ask for. A shorter timeout does cut it off.
func TestIdle(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes longer than a minute, which is the usual timeout")
	}
	idle := func(t *testing.T, p *proxy) (pings int, err error) {
		ws, status := p.dial("127.0.0.2", "/y-webrtc", nil)
		if ws == nil {
			t.Fatalf("status %d", status)
		}
		pong := ws.PingHandler()
		ws.SetPingHandler(func(s string) error { pings++; return pong(s) })
		ws.SetReadDeadline(time.Now().Add(115 * time.Second)) // two pings, and nearly two minutes
		_, _, err = ws.ReadMessage()
		return pings, err
	}
	for _, k := range kinds() {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			pings, err := idle(t, k.start(t, node.Config{TrustedProxies: trusted}, nil))
			var net net.Error
			if !errors.As(err, &net) || !net.Timeout() || pings < 2 {
				t.Errorf("after %d pings: %v", pings, err)
			}
		})
	}
	t.Run("nginx with a short timeout", func(t *testing.T) {
		t.Parallel()
		p := kinds()[1].start(t, node.Config{TrustedProxies: trusted}, func(s string) string {
			return replace(t, s, "proxy_read_timeout 150s", "proxy_read_timeout 5s")
		})
		pings, err := idle(t, p)
		var net net.Error
		if pings > 0 || err == nil || (errors.As(err, &net) && net.Timeout()) {
			t.Errorf("it is not cut off: %d pings, %v", pings, err)
		}
	})
}
