package door

import "sync"

// maxIdleWorkers is how many workers are kept for the next clients that have
// something to say.
const maxIdleWorkers = 64

// workers are goroutines that handle what clients send. A connection that waits
// has a goroutine of its own that does nothing else, so that its stack stays at
// the 2 KB it was born with; reading and handling a message takes more, and a
// stack that has grown stays so.
type workers struct {
	all sync.WaitGroup

	mu   sync.Mutex
	idle []*worker
	stop bool
}

type worker struct {
	in     chan task // nil: end
	out    chan outcome
	frames *frames // nil: to be made
}

// task is something that a worker does.
type task interface {
	work(w *worker) outcome
}

// handle lets a worker do something and waits for what becomes of it.
func (ws *workers) handle(t task) outcome {
	w := ws.get()
	w.in <- t
	out := <-w.out
	ws.put(w)
	return out
}

func (ws *workers) get() *worker {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if n := len(ws.idle); n > 0 {
		w := ws.idle[n-1]
		ws.idle = ws.idle[:n-1]
		return w
	}
	w := &worker{in: make(chan task), out: make(chan outcome)}
	ws.all.Go(w.run)
	return w
}

func (ws *workers) put(w *worker) {
	ws.mu.Lock()
	keep := !ws.stop && len(ws.idle) < maxIdleWorkers
	if keep {
		ws.idle = append(ws.idle, w)
	}
	ws.mu.Unlock()
	if !keep {
		w.in <- nil
	}
}

// end is called when no connection is left.
func (ws *workers) end() {
	ws.mu.Lock()
	ws.stop = true
	idle := ws.idle
	ws.idle = nil
	ws.mu.Unlock()
	for _, w := range idle {
		w.in <- nil
	}
	ws.all.Wait()
}

func (w *worker) run() {
	for t := range w.in {
		if t == nil {
			return
		}
		w.out <- t.work(w)
	}
}
