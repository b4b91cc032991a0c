// Package matchbox is a door.
package matchbox

import (
	"net/http"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/relay"
)

// Name is the door's namespace in protocol.App.
const Name = "matchbox"

// Config is what a Door is made from.
type Config struct {
	Host    *door.Host
	Relay   *relay.Relay
	Clients int // at most so many at a time; 0 is no bound
}

// Door is the door. Use New.
type Door struct {
	cfg    Config
	places door.Places
}

// New makes the door.
func New(cfg Config) *Door { return &Door{cfg: cfg, places: door.Places{Max: cfg.Clients}} }

// Stats are the door's totals.
type Stats struct{}

// Name implements door.Door.
func (d *Door) Name() string { return Name }

// Stats implements door.Door.
func (d *Door) Stats() any { return Stats{} }

// Register implements door.Door.
func (d *Door) Register(_, _ *http.ServeMux) {}
