package node_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/peerservers/peerserver/node"
)

// benchNode in the environment makes the test's program a node and nothing
// else, so that its CPU time is measured apart from that of the clients.
const benchNode = "PEERSERVER_BENCH_NODE"

func TestMain(m *testing.M) {
	if os.Getenv(benchNode) != "" {
		n, err := node.New(node.Config{Listen: "127.0.0.1:0", AllowPrivate: true, NoDHT: true})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(n.Addr())
		ctx, stop := context.WithCancel(context.Background())
		go func() {
			_, _ = os.Stdin.Read(make([]byte, 1)) // until the benchmark ends
			stop()
		}()
		if err := n.Serve(ctx); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	for end := time.Now().Add(patience); runtime.NumGoroutine() > 2 && code == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			b := make([]byte, 1<<20)
			fmt.Fprintf(os.Stderr, "goroutines are left over:\n%s\n", b[:runtime.Stack(b, true)])
			code = 1
		}
	}
	os.Exit(code)
}

// nodeProcess is a node in a process of its own.
type nodeProcess struct {
	addr string
	pid  int
}

func startProcess(b *testing.B) *nodeProcess {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), benchNode+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return &nodeProcess{addr: strings.TrimSpace(line), pid: cmd.Process.Pid}
}

// cpu is the processor time it has used.
func (p *nodeProcess) cpu(b *testing.B) time.Duration {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
	if err != nil {
		b.Skip("no /proc here")
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+2:]))
	ticks := 0
	for _, f := range fields[11:13] { // user, system; in hundredths of a second
		n, _ := strconv.Atoi(f)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// rss is the memory it has, in bytes.
func (p *nodeProcess) rss(b *testing.B) int {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.pid))
	if err != nil {
		b.Skip("no /proc here")
	}
	n, _ := strconv.Atoi(strings.Fields(string(stat))[1])
	return n * os.Getpagesize()
}

// swarmLoad are clients that announce 5 offers each, answer what they get, and
// announce again when all of theirs were answered.
type swarmLoad struct {
	answers atomic.Int64
	want    int64
	done    chan struct{}
	once    sync.Once
}

var benchSDP = strings.Repeat(`a=candidate:1 1 udp 2113937151 192.168.1.1 54321 typ host\r\n`, 16)

func (l *swarmLoad) client(ws *websocket.Conn, hash, id string) error {
	const perAnnounce = 5
	ids := 0
	announceAgain := func() error {
		var list []string
		for range perAnnounce {
			ids++
			list = append(list, `{"offer":{"type":"offer","sdp":"`+benchSDP+`"},"offer_id":"`+id[:10]+fmt.Sprintf("%010d", ids)+`"}`)
		}
		return ws.WriteMessage(websocket.TextMessage, []byte(announce(hash, id, `"numwant":5`, offers(list...))))
	}
	if err := announceAgain(); err != nil {
		return err
	}
	answered := 0
	field := func(m []byte, name string) []byte {
		m = m[bytes.LastIndex(m, []byte(name))+len(name):]
		return m[:bytes.IndexByte(m, '"')]
	}
	for {
		_, m, err := ws.ReadMessage()
		if err != nil {
			return err
		}
		switch {
		case bytes.HasPrefix(m, []byte(`{"action":"announce","offer":`)):
			a := fmt.Appendf(nil, `{"action":"announce","info_hash":"%s","peer_id":"%s","to_peer_id":"%s","answer":{"type":"answer","sdp":"%s"},"offer_id":"%s"}`,
				hash, id, field(m, `"peer_id":"`), benchSDP, field(m, `"offer_id":"`))
			if err := ws.WriteMessage(websocket.TextMessage, a); err != nil {
				return err
			}
		case bytes.HasPrefix(m, []byte(`{"action":"announce","answer":`)):
			if l.answers.Add(1) >= l.want {
				l.once.Do(func() { close(l.done) })
			}
			if answered++; answered%perAnnounce == 0 {
				if err := announceAgain(); err != nil {
					return err
				}
			}
		}
	}
}

// BenchmarkDoor relays offers, each answered, through a node in a process of
// its own. One operation is one offer and its answer.
func BenchmarkDoor(b *testing.B) {
	for _, size := range []int{20, 100} {
		b.Run(fmt.Sprintf("swarm=%d", size), func(b *testing.B) {
			p := startProcess(b)
			l := &swarmLoad{want: int64(b.N), done: make(chan struct{})}
			var clients sync.WaitGroup
			var sockets []*websocket.Conn
			for i := range 200 {
				ws, _, err := websocket.DefaultDialer.Dial("ws://"+p.addr, nil)
				if err != nil {
					b.Fatal(err)
				}
				sockets = append(sockets, ws)
				// Joined first, so that all have somebody to offer to.
				id, h := pad(fmt.Sprintf("p%09d", i), '-'), hash(fmt.Sprint("swarm", i/size))
				if err := ws.WriteMessage(websocket.TextMessage, []byte(announce(h, id))); err != nil {
					b.Fatal(err)
				}
				if _, _, err := ws.ReadMessage(); err != nil {
					b.Fatal(err)
				}
			}
			before := p.cpu(b)
			b.ResetTimer()
			for i, ws := range sockets {
				clients.Go(func() {
					_ = l.client(ws, hash(fmt.Sprint("swarm", i/size)), pad(fmt.Sprintf("p%09d", i), '-'))
				})
			}
			select {
			case <-l.done:
			case <-time.After(time.Minute):
				b.Errorf("%d of %d answers came", l.answers.Load(), l.want)
			}
			b.StopTimer()
			b.ReportMetric((p.cpu(b)-before).Seconds()*1000/float64(l.answers.Load()), "cpu-s/1000")
			b.ReportMetric(float64(l.answers.Load())/b.Elapsed().Seconds(), "offers/s")
			for _, ws := range sockets {
				ws.Close()
			}
			clients.Wait()
		})
	}
}

// BenchmarkIdle is the memory of a connection that has announced and waits.
func BenchmarkIdle(b *testing.B) {
	p := startProcess(b)
	const conns = 4000
	before := p.rss(b)
	for b.Loop() {
		var sockets []*websocket.Conn
		cpu := p.cpu(b)
		for i := range conns {
			ws, _, err := websocket.DefaultDialer.Dial("ws://"+p.addr, nil)
			if err != nil {
				b.Fatal(err)
			}
			sockets = append(sockets, ws)
			if err := ws.WriteMessage(websocket.TextMessage, []byte(announce(hash(fmt.Sprint("swarm", i/100)), pad(fmt.Sprintf("p%09d", i), '-')))); err != nil {
				b.Fatal(err)
			}
			if _, _, err := ws.ReadMessage(); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric((p.cpu(b)-cpu).Seconds()*1000/conns, "setup-cpu-s/1000")
		b.ReportMetric(float64(p.rss(b)-before)/conns, "rss-B/conn")
		for _, ws := range sockets {
			ws.Close()
		}
	}
}
