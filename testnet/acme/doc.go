// Package acme has only tests: nodes as programs, which get their certificates
// from pebble, the CA that Let's Encrypt tests clients with. It is a module of its
// own so that pebble stays out of the main go.mod.
package acme
