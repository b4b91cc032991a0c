// Package protocol is the wire between nodes and its vocabulary: ids, frames,
// signed records, limits and error codes. It does no I/O, starts no goroutine
// and reads no clock.
//
// Start with [App], which names what peers have in common, and
// [SignedRecord.Verify], which turns bytes from a stranger into a [Record].
// The frames are specified in peerserver.proto; every size and duration stands
// in limits.go with its reason.
package protocol

//go:generate sh -c "cd .. && go tool -modfile=tools/go.mod buf generate"
