//go:build linux && !race

package e2e_test

// raceFlags are for the program under test.
var raceFlags []string
