package native_test

import (
	"strings"
	"testing"
	"time"

	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/testnet"
)

func (c *client) sendData(to *client, e *protocol.Envelope) *protocol.ToPeer {
	c.t.Helper()
	return c.ask(&protocol.ToNode{Body: &protocol.ToNode_Send{Send: &protocol.Send{
		App: chess[:], Session: c.session[:], To: to.member().Bytes(), Envelope: e, Data: true,
	}}})
}

// A peer that sends as fast as it can gets no more through than its quota, on
// the same node and to another one, and others' offers pass. When it has waited
// for as long as it is told, the next piece passes.
func TestRelayedDataIsBounded(t *testing.T) {
	t.Parallel()
	const size, rate = 8 << 10, protocol.RelayData
	for name, node := range map[string]int{"same node": 0, "another node": 1} {
		t.Run(name, func(t *testing.T) {
			net := testnet.Start(t, 2)
			from := enters(t, net.URL(0), 1, chess)
			to := enters(t, net.URL(node), 2, chess)
			meet(from, to)
			other := enters(t, net.URL(0), 3, chess)
			from.sees(other, false)
			to.sees(other, false)
			began := time.Now()
			passed, bytes, refused := 0, 0, 0
			for i := range 200 {
				e := from.envelope(to, uint64(i+1), strings.Repeat("x", size))
				m := from.sendData(to, e)
				switch r := m.GetRefused(); {
				case m.GetDone() != nil:
					passed++
					bytes += len(e.Body) + len(e.Signature)
				case r == nil || protocol.Code(r.Code) != protocol.CodeRate || r.RetryAfter == 0 || r.RetryAfter > 1000*(size+1000)/rate:
					t.Fatalf("answer %v", m)
				default:
					refused++
				}
				if i%50 == 0 {
					other.does(other.send(to.member().Bytes(), other.envelope(to, uint64(i+1), "offer")))
				}
			}
			if most := 2*rate + int(time.Since(began).Seconds()*rate); bytes > most || bytes < 2*rate-2*size || refused == 0 {
				t.Errorf("%d bytes passed, of at most %d", bytes, most)
			}
			offers, pieces := 0, 0
			for offers < 4 || pieces < passed {
				d := to.next().GetDelivered()
				if string(d.From) == string(other.member().Bytes()) {
					offers++
				} else {
					pieces++
				}
			}
			for {
				m := from.sendData(to, from.envelope(to, 1000, strings.Repeat("x", size)))
				if r := m.GetRefused(); r != nil {
					time.Sleep(time.Duration(r.RetryAfter) * time.Millisecond)
					from.does(from.sendData(to, from.envelope(to, 1001, strings.Repeat("x", size))))
					break
				}
			}
			if s := statsOf(t, net, 0); int(s.DataMessages) < passed+1 || int(s.DataBytes) < bytes || int(s.DataRefused) < refused {
				t.Errorf("%d messages of %d bytes, %d refused; counted %+v", passed, bytes, refused, s)
			}
		})
	}
}
