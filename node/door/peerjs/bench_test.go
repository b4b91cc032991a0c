package peerjs

import (
	"strings"
	"testing"
)

// An offer of a data connection, of the usual size.
func BenchmarkOffer(b *testing.B) {
	frame := []byte(`{"type":"OFFER","payload":{"sdp":{"type":"offer","sdp":"` + strings.Repeat(`a=candidate:1 1 udp 2113937151 192.0.2.1 54321 typ host\r\n`, 20) +
		`"},"type":"data","connectionId":"dc_0123456789","label":"dc_0123456789","reliable":false,"serialization":"binary"},"dst":"bob"}`)
	b.ReportAllocs()
	b.SetBytes(int64(len(frame)))
	for b.Loop() {
		m, ok := parse(frame)
		if !ok {
			b.Fatal("it is not taken")
		}
		if m, ok = readWire(m.wire(), true); !ok {
			b.Fatal("it is not taken over a link")
		}
	}
}
