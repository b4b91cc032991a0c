package door

import (
	"runtime"
	"sync"
	"time"
)

// flusher writes what connections have queued. Writing later than the message
// comes lets several messages to one client go out in one system call.
type flusher struct {
	host *Host
	wake chan struct{}
	w    *rawWriter

	mu    sync.Mutex
	list  []*Conn // dirty connections
	spare []*Conn
	stop  bool
}

func newFlusher(h *Host) *flusher {
	return &flusher{host: h, wake: make(chan struct{}, 1), w: newRawWriter()}
}

// add is called with c.mu held.
func (f *flusher) add(c *Conn) {
	f.mu.Lock()
	f.list = append(f.list, c)
	first := len(f.list) == 1
	f.mu.Unlock()
	if first {
		f.signal()
	}
}

func (f *flusher) signal() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (f *flusher) end() {
	f.mu.Lock()
	f.stop = true
	f.mu.Unlock()
	f.signal()
}

func (f *flusher) run() {
	for range f.wake {
		// Let those who are writing now finish, so that one round takes more.
		runtime.Gosched()
		f.mu.Lock()
		list := f.list
		f.list = f.spare[:0]
		stop := f.stop
		f.mu.Unlock()
		for i, c := range list {
			list[i] = nil
			f.flush(c)
		}
		f.spare = list
		if stop && len(list) == 0 {
			return
		}
		if stop {
			f.signal()
		}
	}
}

// flush writes what c has queued, as far as the kernel takes it at once; the
// rest is for a goroutine of its own.
func (f *flusher) flush(c *Conn) {
	c.mu.Lock()
	c.dirty = false
	if c.writing || c.dead {
		c.mu.Unlock()
		return
	}
	if c.out == nil {
		c.settle()
		c.mu.Unlock()
		return
	}
	buf := c.out
	c.out, c.writing, c.inFlight = nil, true, len(buf.b)
	c.mu.Unlock()
	n := 0
	if c.hot != nil {
		var err error
		if n, err = f.w.write(c.hot, buf.b); err != nil {
			c.kill()
		}
	}
	if n < len(buf.b) {
		f.host.drains.Go(func() { c.drain(buf, n) })
		return
	}
	c.written(buf)
}

// written is called by a writer when all it took is written, and ends its turn.
func (c *Conn) written(buf *buffer) {
	freeOut(buf)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inFlight, c.writing = 0, false
	if c.out != nil {
		c.markDirty()
		return
	}
	c.settle()
}

// settle hangs up when that is all that is left to do; mu is held.
func (c *Conn) settle() {
	if c.hangUp {
		c.killLocked()
	}
}

// drain writes what the kernel did not take at once, and what is queued
// meanwhile. A client that takes nothing for the whole of the write timeout is
// dead.
func (c *Conn) drain(buf *buffer, done int) {
	for {
		c.mu.Lock()
		c.slow = true
		wait := c.host.cfg.WriteTimeout
		if c.closing {
			wait = min(wait, closeLinger)
		}
		c.mu.Unlock()
		c.setWriteDeadline(time.Now().Add(wait))
		n, err := c.writeBlocking(buf.b[done:])
		done += n
		if err != nil {
			c.kill()
			freeOut(buf)
			return
		}
		c.mu.Lock()
		c.inFlight = len(buf.b) - done
		if done < len(buf.b) {
			c.mu.Unlock()
			continue
		}
		freeOut(buf)
		if c.out == nil || c.dead {
			c.setWriteDeadline(time.Time{})
			c.writing, c.slow = false, false
			c.settle()
			c.mu.Unlock()
			return
		}
		buf, done = c.out, 0
		c.out, c.inFlight = nil, len(buf.b)
		c.mu.Unlock()
	}
}

func (c *Conn) setWriteDeadline(t time.Time) {
	if c.hot != nil {
		c.hot.TCPConn.SetWriteDeadline(t)
		return
	}
	c.nc.SetWriteDeadline(t)
}

// writeBlocking writes some of p, so little that a slow client takes it within
// the write timeout. Under TLS gorilla writes there as well, but only its last
// words to a client that broke the protocol.
func (c *Conn) writeBlocking(p []byte) (int, error) {
	p = p[:min(drainChunk, len(p))]
	if c.hot != nil {
		return c.hot.TCPConn.Write(p)
	}
	return c.nc.Write(p)
}
