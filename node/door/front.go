package door

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// firstWithin is how long a new connection may say nothing.
const firstWithin = 10 * time.Second

// front is a listener that answers requests for a WebSocket itself and gives
// the others to net/http. What net/http spends on a connection, 14 KB of
// buffers among it, is garbage as soon as a WebSocket takes it over: a node
// that 20,000 clients come back to at once would spend its time with that.
type front struct {
	net.Listener
	host    *Host
	sockets http.Handler
	port    Port
	others  chan net.Conn // for net/http
	done    chan struct{}

	stop sync.Once
	err  error // valid when done is closed
	all  sync.WaitGroup
}

// Port is what a node's port is for besides HTTP. The zero value is nothing.
type Port struct {
	// TLS is what the port speaks; nil: it speaks none.
	TLS *tls.Config
	// STUN takes connections that begin as STUN and TURN do, under TLS or not; nil:
	// they are closed. It may keep its goroutine for as long as it has the
	// connection, and has to close it, and to return, when the node ends.
	STUN func(net.Conn)
}

// firstOther is the first byte from which on a connection is not STUN's: RFC
// 7983.
const firstOther = 4

// Front is FrontWith for plain HTTP alone.
func (h *Host) Front(l net.Listener, sockets http.Handler) net.Listener {
	return h.FrontWith(l, sockets, Port{})
}

// FrontWith is Listen for the node's port. Requests for a WebSocket go to sockets,
// in their usual form. Its Accept gives the connections of all others, and all
// those that are under TLS, and is to be called.
func (h *Host) FrontWith(l net.Listener, sockets http.Handler, p Port) net.Listener {
	if _, ok := l.(*net.TCPListener); !ok {
		if l = h.Listen(l); p.TLS != nil {
			l = tls.NewListener(l, p.TLS)
		}
		return l
	}
	f := &front{Listener: h.Listen(l), host: h, sockets: sockets, port: p, others: make(chan net.Conn), done: make(chan struct{})}
	f.all.Go(f.accept)
	return f
}

func (f *front) accept() {
	pause := time.Duration(0)
	for {
		c, err := f.Listener.Accept()
		if err != nil {
			var net net.Error
			if errors.As(err, &net) && net.Timeout() {
				continue
			}
			if !tooManyFiles(err) {
				f.end(err)
				return
			}
			// As net/http does: some will close soon.
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			f.wait(pause)
			continue
		}
		pause = 0
		hc := c.(*hotConn)
		if !hc.ready() || !f.host.await(hc) {
			hc.Close()
			continue
		}
		go f.serve(hc)
	}
}

func (f *front) wait(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-f.done:
	}
}

func (f *front) end(err error) {
	f.stop.Do(func() {
		f.err = err
		close(f.done)
	})
}

// Accept is called by net/http.
func (f *front) Accept() (net.Conn, error) {
	select {
	case c := <-f.others:
		return c, nil
	case <-f.done:
		return nil, f.err
	}
}

// Close may be called more than once.
func (f *front) Close() error {
	err := f.Listener.Close()
	f.end(net.ErrClosed)
	f.all.Wait()
	return err
}

// serve is the goroutine of a connection from its first byte to its last,
// unless net/http takes over.
func (f *front) serve(hc *hotConn) {
	defer f.host.readers.Done()
	hc.await()
	if !f.host.awaited(hc) || hc.err != nil {
		hc.drop()
		return
	}
	if f.port.TLS != nil {
		f.unwrap(hc)
		return
	}
	switch f.host.workers.handle(&firstRequest{f, hc}) {
	case goesOn:
		hc.conn.run()
	case isOther:
		f.hand(hc, hc.in.b[hc.pos])
	}
}

// hand gives a connection away, by its first byte.
func (f *front) hand(c net.Conn, first byte) {
	if first < firstOther {
		if f.port.STUN == nil {
			c.Close()
			return
		}
		f.port.STUN(c)
		return
	}
	select {
	case f.others <- c:
	case <-f.done:
		c.Close()
	}
}

// firstRequest is a task.
type firstRequest struct {
	f  *front
	hc *hotConn
}

func (r *firstRequest) work(*worker) outcome { return r.f.request(r.hc) }

// outcome is what became of a connection.
type outcome uint8

const (
	hasEnded outcome = iota
	goesOn           // it is a WebSocket and waits for more
	isOther          // it is for net/http
)

// request answers a request for a WebSocket, if that is what came, whole and
// with nothing after it.
func (f *front) request(hc *hotConn) outcome {
	b := hc.in.b[hc.pos:hc.end]
	if !bytes.HasPrefix(b, []byte("GET /")) || bytes.Index(b, []byte("\r\n\r\n")) != len(b)-4 {
		return isOther
	}
	w := answers.Get().(*answer)
	w.source.Reset(b)
	w.r.Reset(&w.source)
	q, err := http.ReadRequest(w.r)
	if err != nil || !q.ProtoAtLeast(1, 1) || q.Host == "" || q.ContentLength != 0 || len(q.TransferEncoding) > 0 || !websocket.IsWebSocketUpgrade(q) {
		w.free()
		return isOther
	}
	readBuffers.Put(hc.in)
	hc.in = nil
	q.RemoteAddr = hc.RemoteAddr().String()
	w.hc = hc
	f.sockets.ServeHTTP(w, q)
	return w.finish()
}

// answer is the http.ResponseWriter of such a request.
type answer struct {
	hc       *hotConn
	header   http.Header
	code     int
	body     bytes.Buffer
	hijacked bool
	upgraded bool // by Host.Upgrade

	source bytes.Reader
	r      *bufio.Reader // of the request, then for Hijack
	w      *bufio.Writer // for Hijack
}

var answers = sync.Pool{New: func() any {
	return &answer{r: bufio.NewReader(nil), w: bufio.NewWriterSize(nil, 512)}
}}

func (w *answer) Header() http.Header {
	if w.header == nil {
		w.header = make(http.Header)
	}
	return w.header
}

func (w *answer) WriteHeader(code int) {
	if w.code == 0 {
		w.code = code
	}
}

func (w *answer) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(p)
}

// Hijack implements http.Hijacker.
func (w *answer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if w.hijacked {
		return nil, nil, http.ErrHijacked
	}
	w.hijacked = true
	w.r.Reset(w.hc)
	w.w.Reset(w.hc)
	return w.hc, bufio.NewReadWriter(w.r, w.w), nil
}

// finish sends the answer, unless the connection was taken over.
func (w *answer) finish() outcome {
	hc := w.hc
	switch {
	case w.upgraded:
		w.free()
		return goesOn
	case w.hijacked: // by somebody who may keep the buffers
		return hasEnded
	}
	w.WriteHeader(http.StatusOK)
	response := http.Response{
		StatusCode: w.code, ProtoMajor: 1, ProtoMinor: 1, Header: w.Header(), Close: true,
		ContentLength: int64(w.body.Len()), Body: io.NopCloser(&w.body),
	}
	_ = hc.SetWriteDeadline(time.Now().Add(firstWithin))
	w.w.Reset(hc)
	_ = response.Write(w.w)
	_ = w.w.Flush()
	hc.Close()
	w.free()
	return hasEnded
}

func (w *answer) free() {
	w.hc, w.header, w.code, w.hijacked, w.upgraded = nil, nil, 0, false, false
	w.body.Reset()
	w.source.Reset(nil)
	w.r.Reset(nil)
	w.w.Reset(nil)
	answers.Put(w)
}

// await notes a connection that has not said anything, and counts the
// goroutine that waits for it.
func (h *Host) await(hc *hotConn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stopping {
		return false
	}
	h.readers.Add(1)
	h.silent[hc] = time.Now().Add(firstWithin)
	return true
}

// awaitMore is await for what comes next on a connection that has its goroutine.
func (h *Host) awaitMore(hc *hotConn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stopping {
		return false
	}
	h.silent[hc] = time.Now().Add(firstWithin)
	return true
}

// awaited reports whether it said something in time.
func (h *Host) awaited(hc *hotConn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, ok := h.silent[hc]
	delete(h.silent, hc)
	return ok
}

// hangUp closes the connections that have been silent for too long, or all.
func (h *Host) hangUp(ctx context.Context, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for hc, until := range h.silent {
		if now.After(until) || ctx.Err() != nil {
			delete(h.silent, hc)
			hc.Close()
		}
	}
}

// drop closes a connection that nobody has taken over.
func (hc *hotConn) drop() {
	if hc.in != nil {
		readBuffers.Put(hc.in)
		hc.in = nil
	}
	hc.Close()
}
