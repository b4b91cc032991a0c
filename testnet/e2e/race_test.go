//go:build linux && race

package e2e_test

// raceFlags build the program under test with the race detector, as this test
// was: the clients are the same, and a race ends the program with an error.
var raceFlags = []string{"-race"}
