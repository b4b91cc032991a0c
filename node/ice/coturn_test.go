package ice

import (
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// coturnClient is turnutils_uclient of coturn, somebody else's client of TURN.
func coturnClient(t *testing.T) string {
	path, err := exec.LookPath("turnutils_uclient")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("turnutils_uclient is not here; scripts/install.sh system installs it")
		}
		t.Skip("turnutils_uclient is not here; scripts/install.sh system installs it")
	}
	return path
}

// echo sends back what comes, as a peer of coturn's client does.
func echo(t *testing.T) *net.UDPAddr {
	c := listenUDP(t, "127.0.0.1:0")
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 2000)
		for {
			n, from, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			_, _ = c.WriteToUDPAddrPort(buf[:n], from)
		}
	}()
	t.Cleanup(func() { c.Close(); <-done })
	return c.LocalAddr().(*net.UDPAddr)
}

func TestCoturnsClient(t *testing.T) {
	client := coturnClient(t)
	for _, c := range []struct {
		name  string
		flags []string
		port  func(*scene) string
	}{
		{"UDP, channels", nil, func(sc *scene) string { return sc.udp.String() }},
		{"UDP, indications", []string{"-s"}, func(sc *scene) string { return sc.udp.String() }},
		{"TCP, channels", []string{"-t"}, func(sc *scene) string { return sc.tcp }},
		{"TCP, indications", []string{"-t", "-s"}, func(sc *scene) string { return sc.tcp }},
		{"TLS, channels", []string{"-t", "-S"}, func(sc *scene) string { return sc.tls }},
		{"two relayed", []string{"-y"}, func(sc *scene) string { return sc.udp.String() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // each takes some seconds to wait for stragglers
			sc := serve(t, nil)
			user, password := sc.Credentials([]byte("coturn"))
			peer := echo(t)
			_, port, _ := net.SplitHostPort(c.port(sc))
			// 2 clients, 20 messages of 200 bytes each, no second allocation for RTCP.
			args := append([]string{
				"-c", "-u", user, "-w", password, "-p", port, "-m", "2", "-n", "20", "-l", "200",
				"-e", peer.IP.String(), "-r", strconv.Itoa(peer.Port),
			}, c.flags...)
			cmd := exec.CommandContext(t.Context(), client, append(args, "127.0.0.1")...)
			cmd.WaitDelay = time.Second
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "Total lost packets 0 (0.000000%)") {
				t.Errorf("%v\n%s\n%+v", err, out, sc.Stats())
			}
			if st := sc.Stats(); st.BytesIn < 2*20*200 || st.BytesOut < 2*20*200 {
				t.Errorf("%+v", st)
			}
		})
	}
	t.Run("a wrong password", func(t *testing.T) {
		sc := serve(t, nil)
		user, _ := sc.Credentials([]byte("coturn"))
		cmd := exec.CommandContext(t.Context(), client, "-c", "-u", user, "-w", "wrong", "-p", strconv.Itoa(int(sc.udp.Port())), "-y", "127.0.0.1")
		cmd.WaitDelay = time.Second
		if out, err := cmd.CombinedOutput(); err == nil {
			t.Errorf("it was let in:\n%s", out)
		}
		if sc.count.refused[badCredentials].Load() == 0 {
			t.Errorf("%+v", sc.Stats())
		}
	})
}
