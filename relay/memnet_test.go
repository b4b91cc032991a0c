package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

const oneWay = 50 * time.Millisecond

// memLinked is two ends of a connection from urlA to urlB, 50 ms apart.
func memLinked(t *testing.T, f func(t *testing.T, n *memNet, a, b Conn)) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		defer n.close()
		n.setDelay(oneWay)
		a, b := memDial(t, n)
		f(t, n, a, b)
	})
}

func memDial(t *testing.T, n *memNet) (a, b Conn) {
	t.Helper()
	got := make(chan Conn, 1)
	defer n.listen(urlB, func(c Conn) { got <- c })()
	u, _ := protocol.ParseLinkURL("wss://b.example")
	a, err := n.dialer(urlA).Dial(context.Background(), u)
	if err != nil {
		t.Fatal(err)
	}
	return a, <-got
}

func memExpect(t *testing.T, c Conn, want string) {
	t.Helper()
	if m, err := c.Read(); err != nil || string(m) != want {
		t.Fatalf("read %q, %v; want %q", m, err, want)
	}
}

func memWrite(t *testing.T, c Conn, message string) {
	t.Helper()
	if err := c.Write([]byte(message)); err != nil {
		t.Fatalf("write %q: %v", message, err)
	}
}

func TestMemNetDelayAndOrder(t *testing.T) {
	memLinked(t, func(t *testing.T, n *memNet, a, b Conn) {
		start := time.Now()
		memWrite(t, a, "1")
		time.Sleep(10 * time.Millisecond)
		n.setPairDelay(urlA, urlB, time.Millisecond) // overtakes nothing
		memWrite(t, a, "2")
		memExpect(t, b, "1")
		if d := time.Since(start); d != oneWay {
			t.Errorf("first message took %v", d)
		}
		memExpect(t, b, "2")
		if d := time.Since(start); d != oneWay {
			t.Errorf("second message took %v", d)
		}
		memWrite(t, b, "3")
		memExpect(t, a, "3")
		if d := time.Since(start); d != oneWay+time.Millisecond {
			t.Errorf("answer took %v", d)
		}
	})
}

func TestMemNetBuffers(t *testing.T) {
	memLinked(t, func(t *testing.T, _ *memNet, a, b Conn) {
		m := []byte("mine")
		if err := a.Write(m); err != nil {
			t.Fatal(err)
		}
		copy(m, "else")
		kept, err := b.Read()
		if err != nil || string(kept) != "mine" {
			t.Fatalf("read %q, %v", kept, err)
		}
		memWrite(t, a, "next")
		memExpect(t, b, "next")
		if string(kept) == "mine" {
			t.Error("a message outlives the next Read")
		}
		if err := a.Write(make([]byte, protocol.MaxNoise+1)); err == nil {
			t.Error("a message over protocol.MaxNoise is written")
		}
	})
}

func TestMemNetWindow(t *testing.T) {
	memLinked(t, func(t *testing.T, _ *memNet, a, b Conn) {
		for range memWindow {
			memWrite(t, a, "m")
		}
		start, wrote := time.Now(), make(chan time.Duration)
		go func() {
			memWrite(t, a, "one more")
			wrote <- time.Since(start)
		}()
		time.Sleep(time.Second)
		memExpect(t, b, "m")
		if d := <-wrote; d != time.Second {
			t.Errorf("a write over the window waited %v", d)
		}
	})
}

func TestMemNetClose(t *testing.T) {
	memLinked(t, func(t *testing.T, n *memNet, a, b Conn) {
		memWrite(t, a, "last")
		a.Close(4001)
		a.Close(1000)
		if _, err := a.Read(); !errors.Is(err, errMemClosed) {
			t.Errorf("read after Close: %v", err)
		}
		if err := a.Write(nil); !errors.Is(err, errMemClosed) {
			t.Errorf("write after Close: %v", err)
		}
		memWrite(t, b, "lost, but b cannot know")
		start := time.Now()
		memExpect(t, b, "last")
		if _, err := b.Read(); closeCode(err) != 4001 || time.Since(start) != oneWay {
			t.Errorf("the other end: %v after %v", err, time.Since(start))
		}
		if err := b.Write(nil); err == nil {
			t.Error("a write to a closed conn succeeds")
		}
		if n.links(urlA, urlB) != 0 {
			t.Error("the connection is still there")
		}
	})
}

// Close frees a Read and a Write that wait.
func TestMemNetCloseUnblocks(t *testing.T) {
	memLinked(t, func(t *testing.T, _ *memNet, a, _ Conn) {
		for range memWindow {
			memWrite(t, a, "m")
		}
		errs := make(chan error, 2)
		go func() { _, err := a.Read(); errs <- err }()
		go func() { errs <- a.Write([]byte("blocked")) }()
		synctest.Wait()
		if len(errs) != 0 {
			t.Fatal(<-errs)
		}
		a.Close(1000)
		synctest.Wait()
		if len(errs) != 2 {
			t.Fatal("Close left a Read or a Write waiting")
		}
	})
}

func TestMemNetCutDropHeal(t *testing.T) {
	memLinked(t, func(t *testing.T, n *memNet, a, b Conn) {
		memWrite(t, a, "on its way")
		n.drop(urlB, "wss://a.example")
		for _, c := range []Conn{a, b} {
			if _, err := c.Read(); !errors.Is(err, errMemReset) {
				t.Errorf("read after drop: %v", err)
			}
		}
		a, _ = memDial(t, n)
		n.cut(urlA, urlB)
		if err := a.Write(nil); !errors.Is(err, errMemReset) {
			t.Errorf("write after cut: %v", err)
		}
		defer n.listen(urlB, func(Conn) { t.Error("a cut dial is accepted") })()
		u, _ := protocol.ParseLinkURL(urlB)
		if _, err := n.dialer(urlA).Dial(context.Background(), u); !errors.Is(err, errMemRefused) {
			t.Errorf("dial after cut: %v", err)
		}
	})
	memLinked(t, func(t *testing.T, n *memNet, _, _ Conn) {
		n.cut(urlA, urlB)
		n.heal(urlA, urlB)
		memDial(t, n)
	})
}

func TestMemNetFreeze(t *testing.T) {
	memLinked(t, func(t *testing.T, n *memNet, a, b Conn) {
		memWrite(t, a, "arrives")
		time.Sleep(oneWay)
		n.freeze(urlA, urlB)
		memWrite(t, a, "vanishes")
		a.Close(1000)
		memExpect(t, b, "arrives")
		read := make(chan error, 1)
		go func() { _, err := b.Read(); read <- err }()
		memWrite(t, b, "vanishes too")
		time.Sleep(time.Hour)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		u, _ := protocol.ParseLinkURL(urlB)
		if _, err := n.dialer(urlA).Dial(ctx, u); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("dial into the ice: %v", err)
		}
		n.heal(urlA, urlB)
		time.Sleep(time.Hour)
		if len(read) != 0 {
			t.Errorf("a frozen conn ended: %v", <-read)
		}
		memDial(t, n)
		b.Close(1000)
		<-read
	})
	// What is on its way is lost with the rest, and leaves no gap behind.
	memLinked(t, func(t *testing.T, n *memNet, a, b Conn) {
		memWrite(t, a, "on its way")
		n.freeze(urlA, urlB)
		read := make(chan error, 1)
		go func() { _, err := b.Read(); read <- err }()
		time.Sleep(time.Second)
		n.heal(urlA, urlB)
		memWrite(t, a, "after a gap")
		time.Sleep(time.Second)
		if len(read) != 0 {
			t.Errorf("the stream goes on after a gap: %v", <-read)
		}
		b.Close(1000)
		<-read
	})
}

func TestMemNetHook(t *testing.T) {
	for _, act := range []action{cutBefore, cutAfter} {
		memLinked(t, func(t *testing.T, n *memNet, a, b Conn) {
			var seen []string
			n.hook(func(from, to string, i int, m []byte) action {
				seen = append(seen, fmt.Sprint(from, to, i, string(m)))
				if string(m) == "2" {
					return act
				}
				return pass
			})
			for _, m := range []string{"1", "2", "3"} {
				memWrite(t, a, m)
			}
			memExpect(t, b, "1")
			if act == cutAfter {
				memExpect(t, b, "2")
			}
			for _, c := range []Conn{b, a} {
				if _, err := c.Read(); !errors.Is(err, errMemReset) {
					t.Errorf("action %d: %v", act, err)
				}
			}
			if want := fmt.Sprint(urlA, urlB, 1, "2"); len(seen) != 3 || seen[1] != want {
				t.Errorf("the hook saw %q, want %q in the middle", seen, want)
			}
		})
	}
}

func TestMemNetDials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		n.setDelay(oneWay)
		u, _ := protocol.ParseLinkURL(urlB)
		start := time.Now()
		if _, err := n.dialer("a phone").Dial(context.Background(), u); !errors.Is(err, errMemRefused) || time.Since(start) != 2*oneWay {
			t.Errorf("nobody listens: %v after %v", err, time.Since(start))
		}
		start = time.Now()
		accepted := make(chan time.Duration, 1)
		ended := make(chan error, 1)
		n.listen(urlB, func(c Conn) {
			accepted <- time.Since(start)
			_, err := c.Read()
			ended <- err
		})
		_, err := n.dialer("a phone").Dial(context.Background(), u)
		if dialled, accepted := time.Since(start), <-accepted; err != nil || accepted != 3*oneWay || dialled != 4*oneWay {
			t.Errorf("accepted after %v, dialled after %v: %v", accepted, dialled, err)
		}
		n.close()
		n.close()
		if len(ended) != 1 {
			t.Error("close did not wait for accept")
		}
		if _, err := n.dialer("a phone").Dial(context.Background(), u); err == nil {
			t.Error("a closed net is dialled")
		}
	})
}

func TestMemNetLimit(t *testing.T) {
	memLinked(t, func(t *testing.T, _ *memNet, a, b Conn) {
		b.(readLimiter).limitRead(10)
		if err := a.Write(bytes.Repeat([]byte("x"), 11)); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Read(); code(err) != protocol.CodeTooLarge {
			t.Errorf("over the limit: %v", err)
		}
		if _, err := a.Read(); closeCode(err) != closeTooBig {
			t.Errorf("its sender: %v", err)
		}
	})
}
