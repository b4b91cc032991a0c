// Package doctor finds out what is wrong with a node, and says what to do.
//
//	report := doctor.Run(ctx, doctor.Options{URL: "https://node.example.org"})
//
// It looks from where it runs, as a peer or another node would: each check uses
// what is offered to anybody, and of a node on this machine what its admin
// address tells. codes.go has all that it may find. subject.go is the node that
// is looked at, and login.go a peer there; each other file is a check.
package doctor

import (
	"context"
	"crypto/x509"
	"slices"
	"strings"
	"time"
)

// State is how serious a finding is.
type State string

// States.
const (
	OK      State = "ok"
	Warning State = "warning" // it works, though not for all or not for long
	Failed  State = "failed"
	Skipped State = "skipped" // it could not be looked at, or there is nothing to look at
)

// Finding is what a check has found.
type Finding struct {
	Check string `json:"check"`
	State State  `json:"state"`
	Code  Code   `json:"code"`         // "ok", or one of Faults
	Found string `json:"found"`        // a sentence
	Do    string `json:"do,omitempty"` // what to do about it
}

// Options say what to look at. The zero value is the node of this machine.
type Options struct {
	URL       string         // of the node, https:// or wss://, with ?token= if it is private; "": the node of this machine
	Admin     string         // address of the admin pages of the node of this machine
	Bootstrap []string       // where to meet the DHT, host:port; none: as the node of this machine, or mainline's well-known nodes
	Timeout   time.Duration  // for all; 0: 60 s
	Idle      time.Duration  // for which a quiet WebSocket has to live; 0: 10 s
	Roots     *x509.CertPool // of the CAs that are believed; nil: the system's
	// Progress is told the name of the check that is waited for, and Found each
	// finding, both by the goroutine that called Run. Nil: nobody.
	Progress func(check string)
	Found    func(Finding)
}

// Defaults.
const (
	Timeout = time.Minute
	Idle    = 10 * time.Second
)

// Report is all that was found.
type Report struct {
	URL      string    `json:"url"`  // that was looked at
	Node     string    `json:"node"` // its id, as it says
	OK       bool      `json:"ok"`   // nothing has failed
	Findings []Finding `json:"findings"`
	Took     int64     `json:"took_ms"`
}

// Count is how many findings are of a state.
func (r *Report) Count(s State) (n int) {
	for _, f := range r.Findings {
		if f.State == s {
			n++
		}
	}
	return n
}

// check is one thing that is looked at.
type check struct {
	name string
	run  func(*subject, context.Context) []Finding
}

// checks are those of a node that answers. They run at once.
func checks() []check {
	return []check{
		{"record", (*subject).checkRecord},
		{"clock", (*subject).checkClock},
		{"dht", (*subject).checkDHT},
		{"reach", (*subject).checkReach},
		{"tls", (*subject).checkTLS},
		{"websocket", (*subject).checkWebSocket},
		{"proxy", (*subject).checkProxy},
		{"login", (*subject).checkLogin},
		{"stun", (*subject).checkSTUN},
		{"turn", (*subject).checkTURN},
		{"nat", (*subject).checkNAT},
	}
}

// Run looks at a node.
func Run(ctx context.Context, o Options) Report {
	began := time.Now()
	if o.Timeout == 0 {
		o.Timeout = Timeout
	}
	if o.Idle == 0 {
		o.Idle = Idle
	}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	r := Report{Findings: []Finding{}}
	add := func(found []Finding) {
		for _, f := range found {
			f.Found = clean(f.Found)
			r.Findings = append(r.Findings, f)
			if o.Found != nil {
				o.Found(f)
			}
		}
	}
	progress := func(name string) {
		if o.Progress != nil {
			o.Progress(name)
		}
	}
	progress("node")
	s, found := find(ctx, o)
	add(found)
	for i, answers := range s.start(ctx) {
		progress(s.checks()[i].name)
		add(<-answers)
	}
	s.close()
	r.URL, r.Node = s.shown(), s.node
	r.OK = r.Count(Failed) == 0
	r.Took = time.Since(began).Milliseconds()
	return r
}

// checks are those that there is something to look at for: of a node that does
// not answer only its TLS.
func (s *subject) checks() []check {
	var list []check
	for _, c := range checks() {
		if s.answers || (c.name == "tls" && s.base != nil && s.base.Scheme == "https") {
			list = append(list, c)
		}
	}
	return list
}

// start runs all checks. Each channel gives what one has found.
func (s *subject) start(ctx context.Context) []chan []Finding {
	var list []chan []Finding
	for _, c := range s.checks() {
		answers := make(chan []Finding, 1)
		list = append(list, answers)
		s.running.Go(func() {
			found := inTime(ctx, c.run(s, ctx))
			for i := range found {
				found[i].Check = c.name
			}
			answers <- found
		})
	}
	return list
}

// inTime takes back what a check calls wrong that was cut short: it may not have
// waited long enough.
func inTime(ctx context.Context, found []Finding) []Finding {
	if ctx.Err() == nil {
		return found
	}
	sure := slices.DeleteFunc(found, func(f Finding) bool { return f.State == Failed || f.State == Warning })
	return append(sure, bad(OutOfTime, "There was no time to look at all of it."))
}

// clean keeps what a stranger has written from doing things to a terminal.
func clean(text string) string {
	const most = 500
	if len(text) > most {
		text = text[:most] + " ..."
	}
	return strings.Map(func(r rune) rune {
		if r < 0x20 || 0x7f <= r && r < 0xa0 {
			return '\ufffd'
		}
		return r
	}, text)
}
