package bench

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// usage is what a process has used.
type usage struct {
	pid int
	cpu time.Duration // user and system
	rss int64         // bytes
	err error
}

// tick is the unit of times in /proc, of which Linux shows 100 a second on
// every machine that Go runs on.
const tick = 10 * time.Millisecond

// readUsage reads the processes' usage, and that of this one as the last.
func readUsage(pids []int) []usage {
	list := make([]usage, 0, len(pids)+1)
	for _, pid := range pids {
		list = append(list, readProcess(pid))
	}
	return append(list, readProcess(os.Getpid()))
}

func readProcess(pid int) usage {
	u := usage{pid: pid}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		u.err = err
		return u
	}
	// The name, in brackets, may contain anything.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	const user, system, pages = 11, 12, 21
	if len(fields) <= pages {
		u.err = fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
		return u
	}
	u.cpu = time.Duration(number(fields[user])+number(fields[system])) * tick
	u.rss = number(fields[pages]) * int64(os.Getpagesize())
	return u
}

func number(b []byte) int64 {
	n, err := strconv.ParseInt(string(b), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// Machine is where the measurements were made.
type Machine struct {
	Cores      int    `json:"cores"`
	CPU        string `json:"cpu,omitempty"`
	OS         string `json:"os"`
	Kernel     string `json:"kernel,omitempty"`
	Go         string `json:"go"`
	LoadBefore string `json:"load_before,omitempty"` // load averages
	LoadAfter  string `json:"load_after,omitempty"`
}

func thisMachine() Machine {
	m := Machine{Cores: runtime.NumCPU(), OS: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version(), LoadBefore: loadAverage()}
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(b))
	}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for l := range strings.Lines(string(b)) {
			if k, v, ok := strings.Cut(l, ":"); ok && strings.TrimSpace(k) == "model name" {
				m.CPU = strings.TrimSpace(v)
				break
			}
		}
	}
	return m
}

func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	f := strings.Fields(string(b))
	return strings.Join(f[:min(3, len(f))], " ")
}
