// Package dhtstore keeps signed records in the mainline DHT and finds them
// there.
package dhtstore
