package peerjs_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/peerservers/peerserver/node/door/peerjs"
	"github.com/peerservers/peerserver/testnet"
)

// session is one recording of the reference server; testnet/transcripts makes
// them.
type session struct {
	Name    string
	Options struct {
		AllowDiscovery  bool `json:"allow_discovery"`
		ConcurrentLimit int  `json:"concurrent_limit"`
	}
	Steps []step
}

// step is what a client does, or what comes of it.
type step struct {
	Connect, Query string
	From, To       string // of a frame: a client that sends it, or that it is sent
	Frame          string
	Binary         bool
	Unordered      bool   // this frame and the next one may change places
	Close          string // a client that closes
	Closed         string // one that the server closes
	Code           int
	Get            string // a path
	Origin         string
	Allowed        string // Access-Control-Allow-Origin
	Status         int
	Type, Body     string
}

// difference is where our door does something else, and why.
type difference struct {
	why  string
	edit func(steps []step) []step
}

var differences = map[string]difference{
	"another key": {
		"any key is an app",
		func(s []step) []step { return []step{s[0], {To: "stranger", Frame: opened}} },
	},
	"the same token again, while the old socket lives": {
		"the client is told OPEN, without which its 'open' never comes (peers/peerjs issue 1289), and the old socket is closed",
		func(s []step) []step {
			at := slices.IndexFunc(s, func(o step) bool { return o.Connect == "new" })
			s = slices.Insert(s, at+1, step{To: "new", Frame: opened}, step{Closed: "old", Code: websocket.CloseNormalClosure})
			return slices.DeleteFunc(s, func(o step) bool { return o.Close == "old" })
		},
	},
	"what is sent after LEAVE": {
		"who has left has no id any more, and another client may have it",
		func(s []step) []step { return s[:len(s)-1] },
	},
	"an id that cannot be": {
		"the client library would not let it pass, and some ids would be a way to fool a page that shows them",
		func(s []step) []step {
			return []step{
				s[0],
				{To: "odd id", Frame: `{"type":"ERROR","payload":{"msg":"Invalid id provided: letters and digits, with single spaces, dashes or underscores between them, at most 64"}}`},
				{Closed: "odd id", Code: websocket.CloseNoStatusReceived},
			}
		},
	},
	"a message of one who has gone": {
		"nobody would get the answer",
		func(s []step) []step { return s[:len(s)-1] },
	},
	"nobody comes to any of two": {
		"the two may come in either order",
		func(s []step) []step {
			s[4].Unordered = true
			return s
		},
	},
	"over HTTP": {
		"what is at the root, and at keys there but the usual one, is the node's",
		func(s []step) []step {
			s[0].Get = "/peerjs-server/"
			s[3].Get = "/peerjs-server" + s[3].Get
			s[4].Body = "" // of 404, which is not the door's
			return s
		},
	},
	"ids are listed": {
		"in alphabetical order: there is no other on all nodes",
		func(s []step) []step {
			for i := range s {
				var ids []string
				if s[i].Get != "" && json.Unmarshal([]byte(s[i].Body), &ids) == nil {
					slices.Sort(ids)
					b, _ := json.Marshal(ids)
					s[i].Body = string(b)
				}
			}
			return s
		},
	},
}

func transcripts(t *testing.T) []session {
	t.Helper()
	b, err := os.ReadFile("testdata/transcripts.json")
	if err != nil {
		t.Fatal(err)
	}
	var all struct{ Sessions []session }
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	known := 0
	for i, s := range all.Sessions {
		if d, ok := differences[s.Name]; ok {
			known++
			all.Sessions[i].Steps = d.edit(s.Steps)
		}
	}
	if len(all.Sessions) < 20 || known != len(differences) {
		t.Fatalf("%d sessions, of which %d differ", len(all.Sessions), known)
	}
	return all.Sessions
}

func TestTranscripts(t *testing.T) {
	t.Parallel()
	n := testnet.Start(t, 1)
	for _, s := range transcripts(t) {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			s.replay(t, n, 0)
		})
	}
}

// Every second client of a session is on another node.
func TestTranscriptsOnTwoNodes(t *testing.T) {
	t.Parallel()
	n := testnet.Start(t, 2)
	for _, s := range transcripts(t) {
		if s.Options.ConcurrentLimit > 0 {
			continue // each node has a limit of its own
		}
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			s.replay(t, n, 0, 1)
		})
	}
}

// replay does what the clients did, on doors of the session's own, and wants
// what came of it.
func (s *session) replay(t *testing.T, n *testnet.Net, nodes ...int) {
	cfg := peerjs.Config{Clients: s.Options.ConcurrentLimit}
	if s.Options.AllowDiscovery {
		cfg.Discovery = []string{"peerjs"}
	}
	var places []*place
	for _, i := range nodes {
		places = append(places, open(t, n, i, cfg))
	}
	clients := func() (sum int) {
		for _, p := range places {
			sum += p.stats().Clients
		}
		return sum
	}
	all, ids := make(map[string]*client), make(map[string]string)
	for i, o := range s.Steps {
		switch {
		case o.Connect != "":
			c := places[len(all)%len(places)].connect(t, o.Query)
			c.name = o.Connect
			all[o.Connect] = c
			q, _ := url.ParseQuery(o.Query)
			ids[o.Connect] = q.Get("id")
		case o.From != "":
			kind := websocket.TextMessage
			if o.Binary {
				kind = websocket.BinaryMessage
			}
			all[o.From].sendAs(kind, o.Frame)
			all[o.From].sync()
			if o.Frame == `{"type":"LEAVE"}` {
				delete(ids, o.From)
			}
		case o.Unordered:
			got, next := all[o.To].next(), &s.Steps[i+1]
			if got == next.Frame {
				next.Frame = o.Frame
			} else if got != o.Frame {
				t.Fatalf("%s got %s", o.To, got)
			}
		case o.To != "":
			all[o.To].wants(o.Frame)
		case o.Close != "":
			before := clients()
			all[o.Close].leaves()
			eventually(t, func() bool { return clients() < before }, "%s is not gone", o.Close)
			delete(all, o.Close)
		case o.Closed != "":
			if code := all[o.Closed].closed(); code != o.Code {
				t.Fatalf("%s was closed with %d, want %d", o.Closed, code, o.Code)
			}
			delete(all, o.Closed)
		case o.Get != "":
			o.get(t, places[0])
		}
	}
	for name, c := range all {
		if id := ids[name]; id != "" {
			c.silent(id)
		}
	}
}

var (
	aUUID = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f-]{27}$`)
	anID  = regexp.MustCompile(`^[a-z0-9]{16}-[a-z2-7]{26}$`)
)

// get wants what the reference server has answered, at last: what clients of
// other nodes do takes a moment.
func (o *step) get(t *testing.T, p *place) {
	t.Helper()
	var status int
	var header http.Header
	var body string
	eventually(t, func() bool {
		status, header, body = p.get(t, o.Get, o.Origin)
		if aUUID.MatchString(o.Body) {
			return anID.MatchString(body)
		}
		return o.Body == "" || strings.TrimSpace(body) == o.Body
	}, "%s: another body than %.100s", o.Get, o.Body)
	if status != o.Status || header.Get("Access-Control-Allow-Origin") != o.Allowed {
		t.Errorf("%s: %d %v, want %d for %s", o.Get, status, header, o.Status, o.Origin)
	}
	if o.Body != "" && header.Get("Content-Type") != o.Type {
		t.Errorf("%s: content of type %q, want %q", o.Get, header.Get("Content-Type"), o.Type)
	}
}

func (p *place) get(t *testing.T, path, origin string) (int, http.Header, string) {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.addr+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if origin != "" {
		q.Header.Set("Origin", origin)
	}
	r, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, r.Header, string(b)
}
