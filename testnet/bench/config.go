package bench

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"time"
)

// smallSwarm is the size under which a server may give an offer to late comers
// too.
const smallSwarm = 50

// Config is one run.
type Config struct {
	// URLs are the servers', ws://host:port. Clients are spread over them.
	URLs []string
	// PIDs are the servers' processes, on this machine, whose CPU time and
	// memory are read.
	PIDs []int
	// Clients is the number of connections.
	Clients int
	// Swarm is the number of members of a swarm.
	Swarm int
	// Layout says who is in which swarm. Empty is All for one server, Cross for
	// more.
	Layout Layout
	// Parallel is how many announces of a closed loop are under way at a time,
	// by clients that take turns. Zero is one for each client.
	Parallel int
	// Offers is their number in one announce.
	Offers int
	// Payload is the size of an offer or answer, in bytes.
	Payload int
	// Rate is the number of offers per second that are sent whatever comes
	// back. Zero is the closed loop: when all offers of an announce are answered
	// the next one follows.
	Rate float64
	// Warmup, Duration and Grace are how long load runs before it is measured,
	// how long it is measured, and how long is waited for answers then.
	Warmup, Duration, Grace time.Duration
	// Seed makes ids and payloads; zero is random.
	Seed uint64
	// Progress is told what is being done.
	Progress io.Writer
}

// Defaults of a Config.
const (
	DefaultClients  = 200
	DefaultSwarm    = 64
	DefaultOffers   = 5
	DefaultPayload  = 1000
	DefaultWarmup   = 2 * time.Second
	DefaultDuration = 10 * time.Second
	DefaultGrace    = 5 * time.Second
)

// readyWithin is how long federated servers have to learn of each other's
// members.
const readyWithin = 30 * time.Second

func orElse[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

func (cfg *Config) complete() error {
	if len(cfg.URLs) == 0 {
		return errors.New("there is no URL")
	}
	orElse(&cfg.Clients, DefaultClients)
	orElse(&cfg.Swarm, DefaultSwarm)
	orElse(&cfg.Offers, DefaultOffers)
	orElse(&cfg.Payload, DefaultPayload)
	orElse(&cfg.Warmup, DefaultWarmup)
	orElse(&cfg.Duration, DefaultDuration)
	orElse(&cfg.Grace, DefaultGrace)
	orElse(&cfg.Parallel, cfg.Clients)
	orElse(&cfg.Progress, io.Discard)
	if len(cfg.URLs) > 1 {
		orElse(&cfg.Layout, Cross)
	}
	orElse(&cfg.Layout, All)
	if cfg.Seed == 0 {
		var b [8]byte
		rand.Read(b[:]) // never fails
		cfg.Seed = binary.LittleEndian.Uint64(b[:])
	}
	switch {
	case cfg.Layout != All && cfg.Layout != Cross:
		return errors.New("a layout is all or cross")
	case cfg.Clients < 0 || cfg.Clients > 100_000, cfg.Offers < 0 || cfg.Offers > 80, cfg.Payload < 0 || cfg.Payload > 56<<10, cfg.Rate < 0, cfg.Parallel < 0 || cfg.Parallel > cfg.Clients:
		return errors.New("a number is out of its range")
	case cfg.Offers*(cfg.Payload+100) > 64<<10:
		return errors.New("an announce would be over 64 KiB, which trackers refuse")
	}
	return nil
}
