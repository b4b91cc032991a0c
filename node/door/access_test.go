package door

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/peerservers/peerserver/protocol"
)

// turnedAway dials and says how the connection is closed; "" if the client
// is let in. What it is told before that goes to word.
func (s *scene) turnedAway(path string, header http.Header, word *string) string {
	s.t.Helper()
	defer s.closeSoon()()
	ws, _, err := insecure.Dial(s.url+path, header)
	if err != nil {
		s.t.Fatal(err)
	}
	defer ws.Close()
	if err := ws.WriteMessage(websocket.TextMessage, []byte("hello")); err != nil {
		s.t.Fatal(err)
	}
	for {
		_, b, err := ws.ReadMessage()
		if closed, ok := errors.AsType[*websocket.CloseError](err); ok {
			if closed.Code != protocol.CloseDenied {
				s.t.Errorf("%s: closed with %d", path, closed.Code)
			}
			return closed.Text
		}
		if err != nil {
			s.t.Fatal(err)
		}
		if string(b) == "hello" {
			return ""
		}
		*word = string(b)
	}
}

// closeSoon closes those that are to be closed soon until it is told to end.
func (s *scene) closeSoon() (end func()) {
	done := make(chan struct{})
	var sweeping sync.WaitGroup
	sweeping.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(time.Millisecond):
				s.host.closeLeaving()
			}
		}
	})
	return func() {
		close(done)
		sweeping.Wait()
	}
}

func TestOrigins(t *testing.T) {
	for _, over := range []way{overFront, overHTTP, overTLS} {
		s := serve(t, Config{Origins: []string{"https://good.example"}}, over)
		for origin, want := range map[string]string{
			"https://good.example": "", "": "", "https://bad.example": deniedOrigin, "null": deniedOrigin, "https://good.example.org": deniedOrigin,
		} {
			header := http.Header{}
			if origin != "" {
				header.Set("Origin", origin)
			}
			if got := s.turnedAway("/", header, new(string)); got != want {
				t.Errorf("origin %q: closed with %q, want %q", origin, got, want)
			}
		}
	}
}

// A token is taken from wherever a request has one, and only a whole one.
func TestTokens(t *testing.T) {
	s := serve(t, Config{Tokens: []string{"one-0123456789abcdef", "two-0123456789abcdef"}}, overFront)
	for path, in := range map[string]bool{
		"/": false, "/?token=": false, "/?token=one": false, "/?token=one-0123456789abcdeF": false, "/?token=one-0123456789abcdefg": false,
		"/?token=one-0123456789abcdef": true, "/?a=b&token=two-0123456789abcdef": true, "/?token=1&token=two-0123456789abcdef": true,
		"/?Token=one-0123456789abcdef": false, "/?token=one-0123456789abcdef,two-0123456789abcdef": false, "/?%zz&token=%zz": false,
		// In a path it is read by who serves the path.
		"/t/one-0123456789abcdef": true, "/t/one-": false,
		// The door's own.
		"/?key=one-0123456789abcdef": true, "/?key=one": false,
	} {
		var word string
		want := deniedToken
		if in {
			want = ""
		}
		if got := s.turnedAway(path, nil, &word); got != want || (!in) != strings.HasPrefix(word, "you may not") {
			t.Errorf("%s: closed with %q after %q, want %q", path, got, word, want)
		}
	}
	if got := s.host.Stats(); got.Denied == 0 || got.RefusedConns != 0 {
		t.Errorf("%+v", got)
	}
	if len(deniedToken) > 123 || len(deniedOrigin) > 123 {
		t.Error("a reason does not fit a close")
	}
}

// Who is turned away is not closed at once: some libraries would be
// back at once.
func TestTurnedAwayLater(t *testing.T) {
	s := serve(t, Config{Tokens: []string{"0123456789abcdef"}}, overFront)
	ws, _, err := s.tryDial(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	say(t, ws, "hello")
	ws.SetReadDeadline(time.Now().Add(patience))
	if got := hear(t, ws); got != "you may not: "+deniedToken {
		t.Errorf("it is told %q", got)
	}
	eventually(t, func() bool {
		s.host.mu.Lock()
		defer s.host.mu.Unlock()
		return len(s.host.leaving) == 1
	}, "it is not to be closed soon")
	s.host.closeLeaving()
	closedWith(t, ws, protocol.CloseDenied)
}
