package testnet

import (
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

// Transcript is what the clients of a door's reference server did and were told,
// as testnet/transcripts/recorder.mjs keeps it. A test plays its scenes to the
// door, after it has changed what is to be different.
type Transcript struct {
	About  string  `json:"about"`
	Scenes []Scene `json:"scenes"`
}

// Scene is clients that come one after the other, by name.
type Scene struct {
	Name  string `json:"name"`
	Steps []Step `json:"steps"`
}

// Step is one thing that one client does, and what all of them are told then.
type Step struct {
	Client string            `json:"client"`
	Open   string            `json:"open"` // the path
	Send   *string           `json:"send"`
	Binary *string           `json:"binary"`
	Close  bool              `json:"close"`
	Told   map[string][]Told `json:"told"`

	// Then, if not nil, is called after the step: it waits until the server has
	// done what it tells nobody of.
	Then func() `json:"-"`
}

// Told is a message, in which ids that the server made up are the name of their
// client in angle brackets, or the end of the connection.
type Told struct {
	Text   string `json:"text"`
	Closed int    `json:"closed"`
}

// The times of a scene: what is to come may take long, what is not to come would
// have come by then.
const (
	toldWithin  = 20 * time.Second
	silentAfter = 150 * time.Millisecond
)

// ReadTranscript reads a transcript.
func ReadTranscript(t TB, file string) *Transcript {
	t.Helper()
	b, err := os.ReadFile(file)
	transcript := new(Transcript)
	if err == nil {
		err = json.Unmarshal(b, transcript)
	}
	if err != nil || len(transcript.Scenes) == 0 {
		t.Fatalf("testnet: transcript %s with %d scenes: %v", file, len(transcript.Scenes), err)
	}
	return transcript
}

// Step is step i of the scene with that name, to be changed.
func (t *Transcript) Step(scene string, i int) *Step {
	for _, s := range t.Scenes {
		if s.Name == scene {
			return &s.Steps[i]
		}
	}
	panic("no scene " + scene) // in a test that does not fit its transcript
}

// Play plays the scene to a server. idOf is the id in the message that says who
// a client is, "" in any other. Messages are compared as JSON.
func (s *Scene) Play(t TB, url string, idOf func(message string) string) {
	t.Helper()
	p := &player{t: t, scene: s.Name, idOf: idOf, clients: make(map[string]*websocket.Conn), ids: make(map[string]string)}
	defer p.end()
	for i := range s.Steps {
		p.step = i
		step := &s.Steps[i]
		p.act(url, step)
		p.hear(step.Client, step.Told[step.Client], step.Close) // it may learn its id
		for name, list := range step.Told {
			if name != step.Client {
				p.hear(name, list, false)
			}
		}
		if then := s.Steps[i].Then; then != nil {
			then()
		}
	}
	silent := time.Now().Add(silentAfter)
	for name, ws := range p.clients {
		_ = ws.SetReadDeadline(silent)
		if _, b, err := ws.ReadMessage(); err == nil {
			t.Fatalf("%s: at the end %s is told %s", s.Name, name, b)
		}
	}
}

// player plays one scene.
type player struct {
	t       TB
	scene   string
	step    int
	idOf    func(string) string
	clients map[string]*websocket.Conn // that are connected
	ids     map[string]string
}

func (p *player) end() {
	for _, ws := range p.clients {
		ws.Close()
	}
}

func (p *player) act(url string, s *Step) {
	p.t.Helper()
	ws := p.clients[s.Client]
	var err error
	switch {
	case s.Open != "":
		p.clients[s.Client], _, err = websocket.DefaultDialer.Dial(url+s.Open, nil) //nolint:bodyclose // gorilla has read it
	case ws == nil:
		err = errors.New("it is not connected")
	case s.Send != nil:
		err = ws.WriteMessage(websocket.TextMessage, []byte(p.fill(*s.Send)))
	case s.Binary != nil:
		err = ws.WriteMessage(websocket.BinaryMessage, []byte(p.fill(*s.Binary)))
	default:
		err = ws.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNoStatusReceived, ""))
	}
	if err != nil {
		p.t.Fatalf("%s, step %d: %s: %v", p.scene, p.step, s.Client, err)
	}
}

// fill puts the ids of this run into a text.
func (p *player) fill(text string) string {
	for name, id := range p.ids {
		text = strings.ReplaceAll(text, "<"+name+">", id)
	}
	return text
}

func (p *player) hear(name string, list []Told, own bool) {
	p.t.Helper()
	for _, want := range list {
		p.hearOne(name, want, own)
	}
}

// hearOne reads what a client is told next. With which code the server answers a
// close of the client's own is not looked at.
func (p *player) hearOne(name string, want Told, own bool) {
	p.t.Helper()
	ws := p.clients[name]
	if ws == nil {
		p.t.Fatalf("%s, step %d: %s is not connected and is to be told %+v", p.scene, p.step, name, want)
		return
	}
	_ = ws.SetReadDeadline(time.Now().Add(toldWithin))
	_, b, err := ws.ReadMessage()
	if ended, ok := errors.AsType[*websocket.CloseError](err); ok && want.Closed != 0 && (own || want.Closed == ended.Code) {
		ws.Close()
		delete(p.clients, name)
		return
	}
	if id := p.idOf(string(b)); err == nil && id != "" {
		p.ids[name] = id
	}
	if err != nil || want.Closed != 0 || !sameJSON(string(b), p.fill(want.Text)) {
		p.t.Fatalf("%s, step %d: %s is told %s (%v), and is to be told %s %d", p.scene, p.step, name, b, err, p.fill(want.Text), want.Closed)
	}
}

func sameJSON(a, b string) bool {
	var x, y any
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && reflect.DeepEqual(x, y)
}
