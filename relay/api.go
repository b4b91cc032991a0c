package relay

import (
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// Joining says how a member takes part. A member's door decides its id, at
// most protocol.MaxMemberID bytes. On one app the newest join of an id wins.
type Joining struct {
	ID            string
	Sink          Sink
	TakesOffers   bool   // may be given the offers of others
	Seeder        bool   // counted as complete
	Subscriber    bool   // is given publishes
	Present       bool   // its join and leave are shown to those who want presence
	WantsPresence bool   // is shown the others'
	WantsCount    bool   // its publishes come with the Count of subscribers
	Blob          []byte // travels with its join, at most protocol.MaxBlob bytes
}

// Claiming is a Joining under an id that nobody else in the app has, on any
// node: the earliest claim wins. Who has the same token takes an id over.
type Claiming struct {
	Joining
	Token  [32]byte // a hash of what the client keeps to itself
	Issued bool     // this node made the id up: other nodes are told, and not waited for
}

// Sink takes what is meant for a member. Deliver never blocks and calls
// nothing of the relay; it says false when it had to refuse. The event and its
// bytes are valid only during the call.
type Sink interface {
	Deliver(e *Event) bool
}

// Kind says what an Event is.
type Kind uint8

// Kinds of events.
const (
	KindOffer     Kind = iota + 1 // From, Ref (offer id), Payload
	KindAnswer                    // From, Ref (offer id), Payload
	KindCandidate                 // From, Ref, Payload
	KindDirect                    // From, Ref, Payload
	KindData                      // From, Ref, Payload
	KindPublish                   // From, Payload, Ref (the NodeID of the node that it came to first), Count
	KindJoined                    // From, Payload (its blob), Ref (the NodeID of its node): a member came after this one
	KindPresent                   // From, Payload (its blob), Ref (its node): a member was there before, learnt of only now
	KindLeft                      // From
	KindLost                      // From: its node is not reached, or its client was lost
	KindFailed                    // Ref of a send that failed, From (whom it was for), Code
	KindReplaced                  // the same id joined again: this member is gone
	KindHeld                      // the claim stood: this is a member now. Comes first, and once
	KindTaken                     // somebody else has claimed the id before, as is known at once or only now: this member is gone
)

// Event is one thing for one member.
type Event struct {
	Kind    Kind
	Foreign bool // it came from another node: no door of ours has seen its bytes
	From    string
	Ref     []byte
	Payload []byte
	Code    protocol.Code
	Count   int // of a publish, to who wants it: the app's subscribers, on all nodes
}

// Offer is one offer of an announce: an id of the client's, at most
// protocol.MaxRef bytes, and an opaque payload.
type Offer struct {
	ID      []byte
	Payload []byte
}

// Message is for one member. Kind is KindAnswer, KindCandidate, KindDirect or
// KindData; the Ref of an answer is the offer's id.
type Message struct {
	Kind    Kind
	To      string
	Ref     []byte
	Payload []byte

	// Wait has a message for a member that is not known wait for it, here and
	// on other nodes, for protocol.SignalWait after the first one that waits for
	// it. Then KindFailed with CodeExpired comes, once for all of them. It is for
	// apps whose members claim their ids.
	Wait bool
	// At is where the member is unless it is found elsewhere: what its id says,
	// if that is a node's tag.
	At protocol.NodeTag
}

// Undelivered names a message that a sink took and could not hand on.
type Undelivered struct {
	From string
	Ref  []byte
}

// Counts are sums over the whole swarm, as far as it is known.
type Counts struct {
	Complete   int
	Incomplete int
	Interval   time.Duration // for the client's next announce
}
