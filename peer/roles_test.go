package peer

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pion/webrtc/v4"
)

// isClient says whether a side is the client in DTLS, as the newest answer has it.
func isClient(pc *webrtc.PeerConnection) bool {
	if d := pc.CurrentLocalDescription(); d.Type == webrtc.SDPTypeAnswer {
		return strings.Contains(d.SDP, "a=setup:active")
	}
	return strings.Contains(pc.CurrentRemoteDescription().SDP, "a=setup:passive")
}

// TestRestartKeepsRoles: who is the client stays it, whoever has made the first
// offer and restarts. A browser takes no answer that turns the two round.
func TestRestartKeepsRoles(t *testing.T) {
	t.Parallel()
	for _, lowerOffers := range []bool{true, false} {
		t.Run(fmt.Sprintf("the lower one offers: %t", lowerOffers), func(t *testing.T) {
			t.Parallel()
			w := wire(t, nil)
			w.meet(t, !lowerOffers, lowerOffers)
			lower, _ := w.connect(t)
			if isClient(lower.pc) == lowerOffers {
				t.Fatal("who has offered is the client")
			}
			for range 2 {
				was := fragment(lower.pc.CurrentLocalDescription().SDP)
				lower.m.wake(note{kind: noteMoved})
				eventually(t, "the connection is restarted", func() bool {
					return fragment(lower.pc.CurrentLocalDescription().SDP) != was
				})
				if isClient(lower.pc) == lowerOffers {
					t.Fatal("a restart has turned the roles round")
				}
			}
		})
	}
}
