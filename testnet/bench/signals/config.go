package signals

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"time"
)

// Protocol is what clients speak.
type Protocol string

// Protocols.
const (
	PeerJS  Protocol = "peerjs"
	YWebRTC Protocol = "y-webrtc"
)

// Config is one run.
type Config struct {
	Protocol Protocol
	// URLs are the servers', ws://host:port, without the protocol's path. The
	// members of each room are spread over them.
	URLs []string
	// PIDs are the servers' processes, on this machine, whose CPU time and
	// memory are read.
	PIDs []int
	// Clients is the number of connections, a multiple of Room.
	Clients int
	// Room is the number of members of a room: two with PeerJS.
	Room int
	// Payload is the size of what a signal carries, in bytes.
	Payload int
	// Rate is the number of signals per second that are sent whatever comes back.
	// Zero is the closed loop: when all members have a signal the next one of the
	// room follows.
	Rate float64
	// Depth is how many signals of a room the closed loop has on their way.
	Depth int
	// Warmup, Duration and Grace are how long load runs before it is measured,
	// how long it is measured, and how long is waited for signals then.
	Warmup, Duration, Grace time.Duration
	// Settle is how long the connections of Idle wait before memory is read.
	Settle time.Duration
	// Progress is told what is being done.
	Progress io.Writer

	seed uint64
}

func orElse[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// complete fills in what is not said, and checks the rest.
func (cfg *Config) complete() error {
	orElse(&cfg.Room, 2)
	orElse(&cfg.Clients, 200)
	orElse(&cfg.Payload, 1000)
	orElse(&cfg.Depth, 5)
	orElse(&cfg.Warmup, 2*time.Second)
	orElse(&cfg.Duration, 5*time.Second)
	orElse(&cfg.Grace, 5*time.Second)
	orElse(&cfg.Settle, 5*time.Second)
	orElse(&cfg.Progress, io.Discard)
	var b [8]byte
	rand.Read(b[:]) // never fails
	cfg.seed = binary.LittleEndian.Uint64(b[:])
	switch {
	case len(cfg.URLs) == 0:
		return errors.New("there is no URL")
	case cfg.Protocol != PeerJS && cfg.Protocol != YWebRTC:
		return fmt.Errorf("%q is no protocol of signals", cfg.Protocol)
	case cfg.Room < 2 || cfg.Room > bits.UintSize || cfg.Protocol == PeerJS && cfg.Room != 2:
		return fmt.Errorf("%d is no size of a room", cfg.Room)
	case cfg.Clients < cfg.Room || cfg.Clients%cfg.Room != 0:
		return fmt.Errorf("%d connections do not fill rooms of %d", cfg.Clients, cfg.Room)
	case cfg.Payload < 0 || cfg.Payload > 50_000, cfg.Rate < 0, cfg.Depth < 0:
		return errors.New("a number is out of its range")
	}
	return nil
}
