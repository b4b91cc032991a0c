//go:build linux

package natlab

import (
	"bytes"
	"math/rand/v2"
	"os"
	"sync"
	"time"
)

const (
	maxFrame = 1 << 16
	// maxQueue bounds the frames that are on their way in one direction: 100 ms at 500 Mbit/s.
	maxQueue = 4096
)

// Cable joins a network device of a namespace with a switch.
type Cable struct {
	tap  *os.File
	up   *line // from the host
	down *line // to it
	all  sync.WaitGroup

	mu    sync.Mutex
	sw    *Switch // nil: it is plugged in nowhere
	cut   bool
	delay time.Duration
	loss  float64
}

// newCable makes a device, which is gone when the cable is closed.
func newCable(namespace, device string) (*Cable, error) {
	tap, err := openTAP(namespace, device)
	if err != nil {
		return nil, err
	}
	c := &Cable{tap: tap}
	c.up, c.down = newLine(c.toSwitch), newLine(c.write)
	c.all.Go(c.read)
	c.all.Go(c.up.run)
	c.all.Go(c.down.run)
	return c, nil
}

// Shape gives the cable a delay and a share of frames that are lost, 0 to 1, in
// each direction.
func (c *Cable) Shape(delay time.Duration, loss float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.delay, c.loss = delay, loss
}

// Cut has all frames be lost. The host is not told: its device stays up.
func (c *Cable) Cut() { c.setCut(true) }

// Heal undoes Cut.
func (c *Cable) Heal() { c.setCut(false) }

func (c *Cable) setCut(cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = cut
}

// plug puts the cable into a switch and pulls it out of the one where it is;
// into nil it is only pulled.
func (c *Cable) plug(to *Switch) {
	c.mu.Lock()
	from := c.sw
	c.sw = to
	c.mu.Unlock()
	if from != nil {
		from.unplug(c)
	}
	if to != nil {
		to.plug(c)
	}
}

// close ends the device and waits for what is on its way.
func (c *Cable) close() {
	c.plug(nil)
	c.tap.Close()
	close(c.up.done)
	close(c.down.done)
	c.all.Wait()
}

// read takes what the host sends.
func (c *Cable) read() {
	buf := make([]byte, maxFrame)
	for {
		n, err := c.tap.Read(buf)
		if err != nil {
			return
		}
		if delay, ok := c.passes(buf[:n]); ok {
			c.up.send(buf[:n], delay)
		}
	}
}

func (c *Cable) toSwitch(frame []byte) {
	c.mu.Lock()
	sw := c.sw
	c.mu.Unlock()
	if sw != nil {
		sw.carry(c, frame)
	}
}

func (c *Cable) toHost(frame []byte) {
	if delay, ok := c.passes(frame); ok {
		c.down.send(frame, delay)
	}
}

// write fails while the device is down: then the frame is lost, as it would be.
func (c *Cable) write(frame []byte) { _, _ = c.tap.Write(frame) }

// passes says whether a frame gets through, and when. That all of an internet is
// one switch is the lab's doing: who asks it for an address (ARP) is answered.
func (c *Cable) passes(frame []byte) (time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(frame) >= 14 && frame[12] == 0x08 && frame[13] == 0x06 {
		return 0, !c.cut
	}
	return c.delay, !c.cut && (c.loss == 0 || rand.Float64() >= c.loss)
}

// line is one direction of a cable: each frame after its delay, in their order
// as long as that stays the same.
type line struct {
	deliver func([]byte)
	queue   chan delayed
	done    chan struct{}
}

type delayed struct {
	frame []byte
	due   time.Time
}

func newLine(deliver func([]byte)) *line {
	return &line{deliver: deliver, queue: make(chan delayed, maxQueue), done: make(chan struct{})}
}

// send does not keep the frame. What has no room is lost, as in a router.
func (l *line) send(frame []byte, delay time.Duration) {
	if delay == 0 {
		l.deliver(frame)
		return
	}
	select {
	case l.queue <- delayed{bytes.Clone(frame), time.Now().Add(delay)}:
	default:
	}
}

func (l *line) run() {
	for {
		select {
		case d := <-l.queue:
			time.Sleep(time.Until(d.due))
			l.deliver(d.frame)
		case <-l.done:
			return
		}
	}
}
