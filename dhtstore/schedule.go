package dhtstore

import (
	"container/heap"
	"context"
	"time"
)

const (
	packetsPerSecond = 250             // asked of the DHT; a home router's table of connections bears that
	packetsForTurns  = 240             // of them for turns; the rest is upkeep, and for lookups not to wait long
	turnPackets      = 50              // assumed of a turn until it has told what it needed; 42 among 50 nodes
	savedUp          = 2 * time.Second // of packets not sent
)

// class says who comes first among the tasks that are due.
type class int8

const (
	classOwn      class = iota // our own record
	classNew                   // an app with peers here that was never announced
	classLive                  // an app with peers here
	classRestored              // an app that had peers before we were started anew
	classes
)

// task is something to be done at a time, over and over. It is in one schedule
// at most, whose owner guards it.
type task struct {
	run   func(context.Context) (packets int)
	due   time.Time
	class class
	heap  *taskHeap // that it is in, or nil
	at    int

	running bool
	again   time.Time // when to run next, set while running; zero: not yet said
}

// schedule decides which task comes next: those that are due by class, and of
// a class the one that has waited longest, as packets are there for them. One
// entry per task: what waits longer than its interval is done once. It has no
// goroutine and no lock.
type schedule struct {
	later taskHeap          // by time
	ready [classes]taskHeap // due, by time
	left  float64           // packets that may be sent; below zero after a turn that needed more
	at    time.Time         // of left
}

func newSchedule(now time.Time) *schedule {
	return &schedule{left: savedUp.Seconds() * packetsForTurns, at: now}
}

// set has a task done at a time, in place of any other time. One that runs is
// done again after that, at the earliest time that was set meanwhile.
func (s *schedule) set(t *task, due time.Time) {
	if t.running {
		if t.again.IsZero() || due.Before(t.again) {
			t.again = due
		}
		return
	}
	s.remove(t)
	t.due = due
	s.later.push(t)
}

// remove takes a task out, if it is in.
func (s *schedule) remove(t *task) {
	t.again = time.Time{}
	if t.heap != nil {
		heap.Remove(t.heap, t.at)
	}
}

// next takes the task out whose turn it is, to be run and given back to ran.
// With none it is how long to wait before asking again, below zero if for ever.
func (s *schedule) next(now time.Time) (*task, time.Duration) {
	s.refill(now)
	for len(s.later) > 0 && !s.later[0].due.After(now) {
		t := s.later[0]
		heap.Pop(&s.later)
		s.ready[t.class].push(t)
	}
	for c := range s.ready {
		if len(s.ready[c]) == 0 {
			continue
		}
		if lack := turnPackets - s.left; lack > 0 {
			return nil, time.Duration(lack/packetsForTurns*float64(time.Second)) + time.Microsecond
		}
		s.left -= turnPackets
		t := s.ready[c][0]
		heap.Pop(&s.ready[c])
		t.running = true
		return t, 0
	}
	if len(s.later) > 0 {
		return nil, s.later[0].due.Sub(now)
	}
	return nil, -1
}

// ran takes a task back, and how many packets it needed.
func (s *schedule) ran(t *task, packets int) {
	s.charge(packets - turnPackets) // that many are paid
	t.running = false
	if due := t.again; !due.IsZero() {
		t.again = time.Time{}
		s.set(t, due)
	}
}

// charge is for packets that were sent without a turn.
func (s *schedule) charge(packets int) { s.left -= float64(packets) }

func (s *schedule) refill(now time.Time) {
	if passed := now.Sub(s.at); passed > 0 {
		s.left = min(s.left+passed.Seconds()*packetsForTurns, savedUp.Seconds()*packetsForTurns)
		s.at = now
	}
}

// taskHeap is a heap by time. A task knows where in it it is.
type taskHeap []*task

func (h *taskHeap) push(t *task) {
	t.heap = h
	heap.Push(h, t)
}

// Len, Less, Swap, Push and Pop are heap.Interface.
func (h taskHeap) Len() int           { return len(h) }
func (h taskHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }

func (h taskHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

func (h *taskHeap) Push(x any) {
	t := x.(*task)
	t.at = len(*h)
	*h = append(*h, t)
}

func (h *taskHeap) Pop() any {
	n := len(*h) - 1
	t := (*h)[n]
	(*h)[n] = nil
	*h = (*h)[:n]
	t.heap = nil
	return t
}
