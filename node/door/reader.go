package door

import (
	"errors"
	"io"
	"net"
	"time"

	"github.com/gorilla/websocket"

	"github.com/peerservers/peerserver/protocol"
)

const maxForgotten = 10_000 // messages

// serve is the goroutine of a client that net/http made known.
func (c *Conn) serve() {
	defer c.host.readers.Done()
	c.run()
}

// run reads and handles what the client sends. For a hot connection it only
// waits and lets workers do the rest.
func (c *Conn) run() {
	if c.hot == nil {
		for c.step(c.frames) {
		}
		c.end()
		return
	}
	for {
		c.hot.await()
		if c.host.workers.handle(c) != goesOn {
			return
		}
	}
}

// work implements task: it reads and handles all that has come.
func (c *Conn) work(w *worker) outcome {
	for c.between() {
		if c.hot.in == nil {
			return goesOn
		}
		if w.frames == nil {
			w.frames = lendable()
		}
		w.frames.c = c
		alive := c.step(w.frames)
		w.frames.c = nil
		if !alive {
			w.frames = nil
			break
		}
	}
	c.end()
	return hasEnded
}

// between handles pings and pongs between two messages: gorilla, when it has
// read one, waits for the message that comes next, and a worker must not wait.
// It reports false when the client has gone or is to go.
func (c *Conn) between() bool {
	for c.hot.in != nil {
		opcode, data := c.hot.control()
		switch opcode {
		case 0:
			return true
		case opPong:
			c.onPong()
		case opPing:
			if err := c.onPing(data); err != nil {
				return c.failed(err)
			}
		}
	}
	return c.hot.err == nil || c.failed(c.hot.err)
}

func (c *Conn) end() {
	c.sess.Closed()
	c.finish()
}

// step reads and hands on one message.
func (c *Conn) step(f *frames) bool {
	_, r, err := f.ws.NextReader()
	if err != nil {
		return c.failed(err)
	}
	buf, n, err := readMessage(r)
	if err != nil {
		return c.failed(err)
	}
	now := time.Now().UnixNano()
	c.last.Store(now)
	switch {
	case c.forgets > 0:
		c.forgets--
		freeRead(buf)
		return c.forgets > 0
	case !c.countMessage(now):
		c.tooFast()
		c.forgets = maxForgotten
	case n > maxMessage:
		c.host.totals.refusedMessages.Add(1)
		c.sess.Refuse(protocol.CodeTooLarge)
	default:
		c.sess.Message(buf.b[:n])
	}
	freeRead(buf)
	return true
}

// readMessage reads a message into a pooled buffer. Of one that is over the
// limit it reads and forgets the rest, and n is over the limit too.
func readMessage(r io.Reader) (buf *buffer, n int, err error) {
	buf = readBuffers.Get().(*buffer)
	for {
		m, err := r.Read(buf.b[n:])
		n += m
		if errors.Is(err, io.EOF) {
			return buf, n, nil
		}
		if err != nil {
			freeRead(buf)
			return nil, 0, err
		}
		if n < len(buf.b) {
			continue
		}
		if n > maxMessage {
			n = maxMessage + 1
			if err := discard(r, buf); err != nil {
				freeRead(buf)
				return nil, 0, err
			}
			return buf, n, nil
		}
		large := largeBuffers.Get().(*buffer)
		copy(large.b, buf.b)
		freeRead(buf)
		buf = large
	}
}

func discard(r io.Reader, buf *buffer) error {
	for {
		if _, err := r.Read(buf.b); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

func freeRead(b *buffer) {
	if len(b.b) == readSize {
		readBuffers.Put(b)
		return
	}
	largeBuffers.Put(b)
}

// failed ends the reading: the client has gone, broke the protocol, or sends
// too many bytes.
func (c *Conn) failed(err error) bool {
	if errors.Is(err, errTooFast) && c.forgets == 0 {
		c.tooFast()
	}
	return false
}

// tooFast tells the client that it is over its quota. What it sends before it
// reads that is read and forgotten, up to a bound: a socket that is closed before
// all is read takes its last words with it.
func (c *Conn) tooFast() {
	c.host.totals.refusedMessages.Add(1)
	c.sess.Refuse(protocol.CodeRate)
	c.Close(protocol.CloseTryAgainLater, "too many messages")
}

func (c *Conn) onPong() { c.last.Store(time.Now().UnixNano()) }

// onPing answers a ping.
func (c *Conn) onPing(data []byte) error {
	now := time.Now().UnixNano()
	c.last.Store(now)
	if !c.countMessage(now) {
		return errTooFast
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing || c.dead {
		return net.ErrClosed
	}
	if c.out != nil && len(c.out.b)+c.inFlight+len(data) > c.host.cfg.Queue {
		c.overflow()
		return net.ErrClosed
	}
	c.control(opPong, data)
	return nil
}

// onClose answers a close with the same code.
func (c *Conn) onClose(code int) {
	if code == websocket.CloseNoStatusReceived {
		code = websocket.CloseNormalClosure
	}
	c.Close(code, "")
}

// finish is the end of the reader. What is queued is still written, within a
// few seconds.
func (c *Conn) finish() {
	stopping := c.host.remove(c)
	c.freeSlot()
	if c.hot != nil && c.hot.in != nil {
		readBuffers.Put(c.hot.in)
		c.hot.in = nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closing = true
	if stopping || (c.out == nil && !c.writing) {
		c.killLocked()
		return
	}
	c.hangUp = true
	if !c.dead {
		c.setWriteDeadline(time.Now().Add(closeLinger))
	}
}

// sweep is called every sweepEvery.
func (c *Conn) sweep(now time.Time) {
	c.mu.Lock()
	sess := c.sess
	c.mu.Unlock()
	sess.Sweep(now)
	quiet := now.Sub(time.Unix(0, c.last.Load()))
	if quiet > silentLimit {
		c.kill()
		return
	}
	if quiet < pingAfter {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closing && !c.dead && now.UnixNano()-c.pinged > int64(pingAfter) {
		c.pinged = now.UnixNano()
		c.control(opPing, nil)
	}
}
