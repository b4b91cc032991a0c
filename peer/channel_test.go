package peer

import (
	"context"
	"errors"
	"io"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// joined are two rooms that are connected, and the channels that the higher
// one's peer opens.
func joined(t *testing.T) (alice, bob *Peer, channels <-chan *Channel) {
	t.Helper()
	opened := make(chan *Channel, 2*maxChannels)
	w := wire(t, nil)
	w.lower.opts.OnChannel = func(_ *Peer, c *Channel) { opened <- c }
	w.meet(t, false, true)
	alice, bob = w.connect(t)
	return alice, bob, opened
}

func TestChannel(t *testing.T) {
	alice, bob, channels := joined(t)
	c, err := bob.Channel(t.Context(), "file", ChannelOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Write(t.Context(), []byte("first")); err != nil {
		t.Fatal(err)
	}
	d := <-channels
	if d.Label() != "file" || d.Peer() != alice {
		t.Errorf("channel %q of another peer", d.Label())
	}
	if b, err := d.Read(t.Context()); string(b) != "first" || err != nil {
		t.Fatalf("read %q, %v", b, err)
	}
	if err := d.Write(t.Context(), []byte("second")); err != nil {
		t.Fatal(err)
	}
	if b, err := c.Read(t.Context()); string(b) != "second" || err != nil {
		t.Fatalf("read %q, %v", b, err)
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Read(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("read from an idle channel: %v", err)
	}
	d.Close()
	if _, err := c.Read(t.Context()); !errors.Is(err, io.EOF) {
		t.Errorf("read from a channel that the other side has closed: %v", err)
	}
	if err := c.Write(t.Context(), nil); !errors.Is(err, ErrGone) {
		t.Errorf("write to a channel that the other side has closed: %v", err)
	}
}

// TestWriteWaits: a reader that does not read stops the writer, and nothing is
// lost by it.
func TestWriteWaits(t *testing.T) {
	_, bob, channels := joined(t)
	c, err := bob.Channel(t.Context(), "slow", ChannelOptions{})
	if err != nil {
		t.Fatal(err)
	}
	chunk := make([]byte, MaxMessage)
	sent := 0
	for {
		short, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		err := c.Write(short, append([]byte(strconv.Itoa(sent)+":"), chunk...)[:len(chunk)])
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			break
		}
		if err != nil || sent > 1000 {
			t.Fatalf("%d messages wait for one who does not read: %v", sent, err)
		}
		sent++
	}
	t.Logf("the writer waits after %d messages", sent)
	d := <-channels
	for i := range sent {
		b, err := d.Read(t.Context())
		if want := strconv.Itoa(i) + ":"; err != nil || string(b[:len(want)]) != want {
			t.Fatalf("message %d: %v", i, err)
		}
	}
	if err := c.Write(t.Context(), []byte("go on")); err != nil {
		t.Error(err)
	}
}

// TestChannelsAreBounded: what is over the bound is closed, and so is every
// channel where nobody takes them.
func TestChannelsAreBounded(t *testing.T) {
	alice, bob, channels := joined(t)
	for i := range maxChannels + 1 {
		c, err := bob.Channel(t.Context(), strconv.Itoa(i), ChannelOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if i < maxChannels {
			<-channels
			continue
		}
		if _, err := c.Read(t.Context()); !errors.Is(err, io.EOF) {
			t.Errorf("one more than there may be: %v", err)
		}
	}
	c, err := alice.Channel(t.Context(), "unwanted", ChannelOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(t.Context()); !errors.Is(err, io.EOF) {
		t.Errorf("a channel that nobody takes: %v", err)
	}
}

// TestSendAfterTheEnd: whoever waits is told.
func TestSendAfterTheEnd(t *testing.T) {
	alice, bob, channels := joined(t)
	c, err := bob.Channel(t.Context(), "c", ChannelOptions{Unordered: true})
	if err != nil {
		t.Fatal(err)
	}
	d := <-channels
	var all sync.WaitGroup
	all.Go(func() {
		for {
			if err := c.Write(t.Context(), make([]byte, MaxMessage)); err != nil {
				if !errors.Is(err, ErrGone) {
					t.Errorf("a writer that waits is told %v", err)
				}
				return
			}
		}
	})
	time.Sleep(300 * time.Millisecond) // until it waits
	if err := alice.Connection().Close(); err != nil {
		t.Fatal(err)
	}
	all.Wait()
	for {
		if _, err := d.Read(t.Context()); errors.Is(err, io.EOF) {
			break
		}
	}
	if _, err := bob.Channel(t.Context(), "late", ChannelOptions{}); err == nil {
		t.Error("a channel opens on a connection that has ended")
	}
	var refused *protocol.Error
	if err := bob.Send(t.Context(), make([]byte, MaxMessage+1)); !errors.As(err, &refused) || refused.Code != protocol.CodeTooLarge {
		t.Errorf("a message that is too large: %v", err)
	}
}
