//go:build race

package dhtstore

// underRace makes networks in bubbles smaller: with more timers in one the race
// detector crashes (golang/go#78156).
const underRace = true
