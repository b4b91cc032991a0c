package relay

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// benchSink answers offers through a queue, as a client does, and counts
// answers.
type benchSink struct {
	m       *Member
	answers *atomic.Int64
	queue   chan benchAnswer
}

type benchAnswer struct {
	by *Member
	Message
}

func (b *benchSink) Deliver(e *Event) bool {
	switch e.Kind {
	case KindOffer:
		b.queue <- benchAnswer{b.m, Message{Kind: KindAnswer, To: e.From, Ref: append([]byte(nil), e.Ref...), Payload: append([]byte(nil), e.Payload...)}}
	case KindAnswer:
		b.answers.Add(1)
	}
	return true
}

// BenchmarkCross sends offers of 1 KB over a real link, each answered. Compare
// with BenchmarkLocal: an operation is one offer and its answer.
func BenchmarkCross(b *testing.B) { benchOffers(b, 2) }

func BenchmarkLocal(b *testing.B) { benchOffers(b, 1) }

func benchOffers(b *testing.B, nodes int) {
	ctx, cancel := context.WithCancel(b.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	var relays []*Relay
	var finders []*fixedFinder
	for i := range nodes {
		var r *Relay
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { r.HandleLink(w, q) }))
		defer srv.Close()
		rec := &protocol.Record{Seq: time.Now().UnixMilli(), TTL: protocol.RecordTTL, URLs: []string{strings.Replace(srv.URL, "http", "ws", 1)}}
		if err := protocol.SignRecord(testKey(byte(i+1)), rec); err != nil {
			b.Fatal(err)
		}
		f := &fixedFinder{own: rec, wanted: make(map[protocol.AppID]func(*protocol.Record))}
		var err error
		r, err = New(Config{Key: testKey(byte(i + 1)), Finder: f, Dialer: NewDialer(DialPolicy{AllowPrivate: true}), AllowPrivate: true, Seed: 1})
		if err != nil {
			b.Fatal(err)
		}
		running.Go(func() { r.Serve(ctx) })
		relays, finders = append(relays, r), append(finders, f)
	}
	if nodes == 2 {
		finders[0].know(finders[1].own)
	}
	var answers atomic.Int64
	queue := make(chan benchAnswer, 1<<16)
	var from []*Member
	sink := func() *benchSink { return &benchSink{answers: &answers, queue: queue} }
	// Many apps, so that what one node may offer in one is not the bound.
	for i := range 400 {
		app := protocol.App("test", fmt.Append(nil, i), nil)
		m, err := relays[0].Join(app, Joining{ID: fmt.Sprint("from", i), Sink: sink()})
		if err != nil {
			b.Fatal(err)
		}
		from = append(from, m)
		for k := range 60 {
			s := sink()
			if s.m, err = relays[nodes-1].Join(app, Joining{ID: fmt.Sprint("to", k), Sink: s, TakesOffers: true}); err != nil {
				b.Fatal(err)
			}
		}
	}
	running.Go(func() {
		for {
			select {
			case a := <-queue:
				a.by.Send(a.Message)
			case <-ctx.Done():
				return
			}
		}
	})
	for _, m := range from {
		for m.Counts().Incomplete < 60 {
			time.Sleep(10 * time.Millisecond)
		}
	}
	payload := make([]byte, 1024)
	var sent int64
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; i < b.N; i += 5 {
		var offers []Offer
		for k := range 5 {
			offers = append(offers, Offer{ID: fmt.Append(nil, i+k), Payload: payload})
		}
		from[i/5%len(from)].Offer(offers)
		sent += 5
		for end := time.Now().Add(time.Minute); sent-answers.Load() > 200; {
			if time.Now().After(end) {
				b.Fatalf("%d answers of %d", answers.Load(), sent)
			}
			time.Sleep(20 * time.Microsecond)
		}
	}
	for end := time.Now().Add(time.Minute); answers.Load() < sent; {
		if time.Now().After(end) {
			b.Fatalf("%d answers of %d", answers.Load(), sent)
		}
		time.Sleep(100 * time.Microsecond)
	}
}
