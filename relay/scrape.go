package relay

import (
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// scrapeWait is how long a scrape waits for the other nodes' counts.
const scrapeWait = 300 * time.Millisecond

// scrape waits for the counts of apps that have no member here.
type scrape struct {
	apps    []protocol.AppID
	waiting map[scrapeKey]struct{}
	until   instant
	done    func([]Counts)
}

type scrapeKey struct {
	l      *link
	number uint32
}

// Scrape sums the counts of apps over all linked nodes. For an app without
// members here it asks them, and waits at most 300 ms. done is called once.
func (r *Relay) Scrape(apps []protocol.AppID, done func([]Counts)) {
	if len(apps) > protocol.MaxTempApps {
		apps = apps[:protocol.MaxTempApps]
	}
	now := r.now()
	sc := &scrape{apps: apps, waiting: make(map[scrapeKey]struct{}), until: now.add(scrapeWait), done: done}
	var ask []protocol.AppID
	r.mu.Lock()
	for _, app := range apps {
		if r.swarms[app] == nil {
			ask = append(ask, app)
		}
	}
	links := r.allLinks()
	serving := r.serving && !r.closing && len(r.scrapes) < 1024
	r.mu.Unlock()
	if len(ask) == 0 || len(links) == 0 || !serving {
		done(r.sum(apps))
		return
	}
	// Registered before anybody is asked, so that no answer is missed.
	r.mu.Lock()
	r.scrapes[sc] = struct{}{}
	r.mu.Unlock()
	for _, app := range ask {
		r.askCounts(sc, app, links)
	}
	r.mu.Lock()
	finished := len(sc.waiting) == 0 && r.endScrape(sc)
	r.mu.Unlock()
	if finished {
		done(r.sum(apps))
	}
}

// askCounts serves the app for a moment.
func (r *Relay) askCounts(sc *scrape, app protocol.AppID, links []*link) {
	s, err := r.quietSwarm(app)
	if err != nil {
		return
	}
	s.mu.Lock()
	s.tempTo = max(s.tempTo, r.now().add(5*time.Second))
	s.lingerLocked()
	s.mu.Unlock()
	r.mu.Lock()
	for _, l := range links {
		if l.isUp() {
			sc.waiting[scrapeKey{l, s.number}] = struct{}{}
		}
	}
	r.mu.Unlock()
	for _, l := range links {
		l.interest(s)
	}
}

// endScrape is called with mu held; it reports false when the scrape has ended
// before.
func (r *Relay) endScrape(sc *scrape) bool {
	_, ok := r.scrapes[sc]
	delete(r.scrapes, sc)
	return ok
}

// answered notes that a node has told its count of an app.
func (r *Relay) answered(l *link, number uint32) {
	r.mu.Lock()
	var ended []*scrape
	for sc := range r.scrapes {
		delete(sc.waiting, scrapeKey{l, number})
		if len(sc.waiting) == 0 && r.endScrape(sc) {
			ended = append(ended, sc)
		}
	}
	r.mu.Unlock()
	for _, sc := range ended {
		sc.done(r.sum(sc.apps))
	}
}

// finishScrapes ends those that have waited long enough.
func (r *Relay) finishScrapes() {
	now := r.now()
	r.mu.Lock()
	var ended []*scrape
	for sc := range r.scrapes {
		if now >= sc.until && r.endScrape(sc) {
			ended = append(ended, sc)
		}
	}
	r.mu.Unlock()
	for _, sc := range ended {
		sc.done(r.sum(sc.apps))
	}
}

func (r *Relay) sum(apps []protocol.AppID) []Counts {
	list := make([]Counts, len(apps))
	for i, app := range apps {
		r.mu.Lock()
		s := r.swarms[app]
		r.mu.Unlock()
		if s == nil {
			list[i] = Counts{Interval: protocol.IntervalSmall}
			continue
		}
		s.mu.Lock()
		list[i] = s.counts()
		s.mu.Unlock()
	}
	return list
}
