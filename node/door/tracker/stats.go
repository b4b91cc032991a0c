package tracker

import (
	"fmt"
	"net/http"
)

// Stats are the door's totals.
type Stats struct {
	Clients  int    `json:"clients"` // sockets
	Swarms   int    `json:"swarms"`
	Seeders  int    `json:"seeders"`
	Leechers int    `json:"leechers"`
	Messages uint64 `json:"messages"`
	Failures uint64 `json:"failures"` // messages answered with a failure reason
	Full     uint64 `json:"full"`     // clients for which there was no room
}

// Torrents are the numbers that the reference server shows too.
func (s Stats) Torrents() (swarms, seeders, leechers int) { return s.Swarms, s.Seeders, s.Leechers }

// Stats implements door.Door.
func (d *Door) Stats() any { return d.totals() }

func (d *Door) totals() Stats {
	d.mu.Lock()
	swarms := len(d.swarms)
	d.mu.Unlock()
	clients, full := d.places.Count()
	return Stats{
		Clients: clients, Full: full, Swarms: swarms, Seeders: int(d.seeders.Load()), Leechers: int(d.leechers.Load()),
		Messages: d.messages.Load(), Failures: d.bad.Load(),
	}
}

// count adds a peer to the totals, or takes it off.
func (d *Door) count(p *peer, by int) {
	if p.seeder {
		d.seeders.Add(int64(by))
	} else {
		d.leechers.Add(int64(by))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.swarms[p.key.hash] += by; d.swarms[p.key.hash] == 0 {
		delete(d.swarms, p.key.hash)
	}
}

// stats is the page of the reference server, as far as its numbers are totals.
func (d *Door) stats(w http.ResponseWriter, _ *http.Request) {
	s := d.totals()
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprintf(w, "<h1>%d torrents (%d active)</h1>\n<h2>Connected Peers: %d</h2>\n<h3>Peers Seeding Only: %d</h3>\n<h3>Peers Leeching Only: %d</h3>\n",
		s.Swarms, s.Swarms, s.Seeders+s.Leechers, s.Seeders, s.Leechers)
}
