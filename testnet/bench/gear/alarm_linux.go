package gear

import (
	"runtime"
	"syscall"
	"time"
)

// Alarm sleeps more exactly than Go's timers, which are a millisecond late when
// nothing else runs: as much as what is measured.
type Alarm struct{}

// NewAlarm makes one for the goroutine that calls it, whose thread is then its
// own.
func NewAlarm() Alarm {
	runtime.LockOSThread()   // and never unlocked: the thread ends with its goroutine
	const setTimerSlack = 29 // PR_SET_TIMERSLACK; the kernel's own is 50 us
	_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, setTimerSlack, 1, 0)
	return Alarm{}
}

// Sleep sleeps.
func (Alarm) Sleep(d time.Duration) {
	t := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&t, nil)
}
