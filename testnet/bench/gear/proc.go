package gear

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// Usage is what a process has used.
type Usage struct {
	PID int
	CPU time.Duration // user and system
	RSS int64         // bytes
	Err error
}

// tick is the unit of times in /proc, of which Linux shows 100 a second on
// every machine that Go runs on.
const tick = 10 * time.Millisecond

// ReadUsage reads the processes' usage, and that of this one as the last.
func ReadUsage(pids []int) []Usage {
	list := make([]Usage, 0, len(pids)+1)
	for _, pid := range pids {
		list = append(list, readProcess(pid))
	}
	return append(list, readProcess(os.Getpid()))
}

func readProcess(pid int) Usage {
	u := Usage{PID: pid}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		u.Err = err
		return u
	}
	// The name, in brackets, may contain anything.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	const user, system, pages = 11, 12, 21
	if len(fields) <= pages {
		u.Err = fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
		return u
	}
	u.CPU = time.Duration(number(fields[user])+number(fields[system])) * tick
	u.RSS = number(fields[pages]) * int64(os.Getpagesize())
	return u
}

// Server is what a process used.
type Server struct {
	PID   int     `json:"pid"`
	CPU   float64 `json:"cpu_seconds"`
	RSS   int64   `json:"rss_bytes"`
	Error string  `json:"error,omitempty"`
}

// Used is what processes used between two readings, the last of which is this
// one, and the CPU seconds of the others: 0 when not all could be read.
func Used(before, after []Usage) (servers []Server, generator Server, cpu float64) {
	known := len(after) > 1
	for i := range after {
		s := Server{PID: after[i].PID, CPU: (after[i].CPU - before[i].CPU).Seconds(), RSS: after[i].RSS}
		if err := after[i].Err; err != nil {
			s = Server{PID: after[i].PID, Error: err.Error()}
		}
		if i == len(after)-1 {
			generator = s
			break
		}
		known = known && after[i].Err == nil && before[i].Err == nil
		servers = append(servers, s)
		cpu += s.CPU
	}
	if !known {
		cpu = 0
	}
	return servers, generator, cpu
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

// ThisMachine is the one this runs on.
func ThisMachine() Machine {
	m := Machine{Cores: runtime.NumCPU(), OS: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version(), LoadBefore: LoadAverage()}
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

// LoadAverage is that of the last 1, 5 and 15 minutes, empty where none is known.
func LoadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	f := strings.Fields(string(b))
	return strings.Join(f[:min(3, len(f))], " ")
}
