package ice

import "testing"

func TestRelayOverEachWay(t *testing.T) {
	sc := serve(t, nil)
	for _, way := range []string{"udp", "tcp", "tls"} {
		t.Run(way, func(t *testing.T) {
			a, peer := sc.relayed(way, "alice"), listenUDP(t, "127.0.0.1:0")
			if from := exchange(t, a, peer, "there"); from.String() != a.LocalAddr().String() {
				t.Errorf("it came from %v, not from the relayed address %v", from, a.LocalAddr())
			}
			if from := exchange(t, peer, a, "and back"); from.String() != peer.LocalAddr().String() {
				t.Errorf("it came from %v, not from %v", from, peer.LocalAddr())
			}
		})
	}
	if st := sc.Stats(); st.BytesIn == 0 || st.BytesOut == 0 || st.BytesToday < st.BytesIn+st.BytesOut {
		t.Errorf("%+v", st)
	}
}

func TestTwoRelayedPeers(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"on loopback":            nil,
		"of a node behind a NAT": func(c *Config) { c.Public = addressesOf("203.0.113.7") },
		"of a public node":       func(c *Config) { c.Public = addressesOf("93.184.216.34"); c.AllowPrivate = false },
	} {
		t.Run(name, func(t *testing.T) {
			sc := serve(t, change)
			a, b := sc.relayed("udp", "alice"), sc.relayed("tcp", "bob")
			permit(a, b)
			if from := exchange(t, a, b, "to bob"); from.String() != a.LocalAddr().String() {
				t.Errorf("bob sees %v, not alice's relayed address %v", from, a.LocalAddr())
			}
			exchange(t, b, a, "to alice")
		})
	}
}
