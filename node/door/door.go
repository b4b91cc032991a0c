// Package door is what the doors of a node share: a door translates between
// the frames of one client protocol and the four verbs of package relay.
//
// A door implements [Door] and is registered by one line in package node. For
// each client it calls [Host.Upgrade], which gives it a [Conn] to write to and
// calls its [Session] with what the client sends. Conn is where the speed is:
// frames are built in place in a pooled buffer and written by a flusher, so
// that no sender ever waits for a client and an idle client costs no buffer.
package door

import (
	"net/http"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// Door is one client protocol.
type Door interface {
	// Name is the namespace of the door's apps (see protocol.App) and its label
	// in statistics.
	Name() string
	// Register adds the paths of the door: sockets gets the requests that ask
	// for a WebSocket, plain all others.
	Register(sockets, plain *http.ServeMux)
	// Stats are the door's totals, to be shown as JSON.
	Stats() any
}

// Keyed is a Door whose plain requests may carry a token in a way of its own
// library, or need none.
type Keyed interface {
	Door
	// Key is the token that only this door sees in a request, "" if there is none.
	// anybody says that the request is for this door and shows nothing of its
	// clients.
	Key(q *http.Request) (token string, anybody bool)
}

// Session is one client's connection, as its door sees it. Message, Refuse and
// Closed are called by one goroutine, Sweep by another.
type Session interface {
	// Message takes one message; its bytes are valid only during the call.
	Message(b []byte)
	// Refuse says that a message was dropped unread, because it was too large
	// (CodeTooLarge) or one too many (CodeRate, after which the connection is
	// closed). The door tells its client in its own words.
	Refuse(code protocol.Code)
	// Sweep is called every few seconds, to let members go that are silent.
	Sweep(now time.Time)
	// Closed is called once, last.
	Closed()
}
