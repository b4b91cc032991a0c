//go:build race

package dhtstore

import "runtime"

// underRace leaves out what takes minutes under the race detector.
const underRace = true

// The race detector crashes when two goroutines of a synctest bubble find, at
// the same moment, a timer that is due (golang/go#78156). The DHT library waits
// for such timers all the time. With one processor no two do, and races are
// found all the same: what is looked for is order, not coincidence.
func init() { runtime.GOMAXPROCS(1) }
