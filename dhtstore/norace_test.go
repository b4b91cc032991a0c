//go:build !race

package dhtstore

const underRace = false
