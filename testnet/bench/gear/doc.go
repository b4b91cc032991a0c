// Package gear is what generators of load have in common: WebSockets by the
// thousand, payloads whose every byte can be checked, histograms, and what the
// servers' processes used.
package gear
