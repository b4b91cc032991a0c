//go:build linux

package natlab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

const tunDevice = "/dev/net/tun"

// inNamespace runs f on a thread that is in a network namespace: what it opens
// is there. The thread comes back, since it may be the first one, by which others
// know where the process is.
func inNamespace(name string, f func() error) (err error) {
	there, err := os.Open(filepath.Join(run, "netns", name))
	if err != nil {
		return err
	}
	defer there.Close()
	runtime.LockOSThread()
	here, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer here.Close()
	defer func() {
		if back := unix.Setns(int(here.Fd()), unix.CLONE_NEWNET); back != nil {
			err = errors.Join(err, back) // and the thread stays locked: nobody else may have it
			return
		}
		runtime.UnlockOSThread()
	}()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	return f()
}

// openTAP makes a network device in a namespace. What the namespace sends is
// read from the file, a frame at a time, and what is written it receives. The
// device is gone when the file is closed.
func openTAP(namespace, device string) (tap *os.File, err error) {
	err = inNamespace(namespace, func() error {
		fd, err := unix.Open(tunDevice, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		request, err := unix.NewIfreq(device)
		if err == nil {
			request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
			err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
		}
		if err != nil {
			unix.Close(fd)
			return err
		}
		tap = os.NewFile(uintptr(fd), device)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("a TAP device %s in %s: %w", device, namespace, err)
	}
	return tap, nil
}
