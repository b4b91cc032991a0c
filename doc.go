// Package peerserver is the root of the repository. It holds no code, only the
// test of the layout: which folder may import which, as a table in
// layers_test.go.
//
// The program is in cmd/peerserver. To read the code, begin with
// docs/architecture.md.
package peerserver
