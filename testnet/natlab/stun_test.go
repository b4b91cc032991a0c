//go:build linux

package natlab_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/pion/stun/v4"
	"golang.org/x/net/ipv4"
)

// The ports of the STUN server, on each of its addresses.
var stunPorts = [2]uint16{3478, 3479}

// The TCP ports of the STUN server, on its first address.
const (
	highPort = 3478
	webPort  = 443
)

// Flags of CHANGE-REQUEST (RFC 5780, 7.2).
const (
	changeIP   = 4
	changePort = 2
)

// stunServer answers binding requests on two addresses and two ports each, from
// the one that it is asked to answer from (RFC 5780), and accepts TCP connections.
func stunServer(ctx context.Context, args []string) error {
	var sockets [2][2]*net.UDPConn
	var all sync.WaitGroup
	defer all.Wait()
	for a := range sockets {
		for p := range sockets[a] {
			at := netip.AddrPortFrom(netip.MustParseAddr(args[a]), stunPorts[p])
			conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
			if err != nil {
				return err
			}
			defer conn.Close()
			sockets[a][p] = conn
		}
	}
	for _, port := range []int{highPort, webPort} {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp4", fmt.Sprintf("%s:%d", args[0], port))
		if err != nil {
			return err
		}
		defer l.Close()
		all.Go(func() { accept(l) })
	}
	for a := range sockets {
		for p := range sockets[a] {
			all.Go(func() {
				serveSTUN(sockets[a][p], func(change byte) *net.UDPConn {
					x, y := a, p
					if change&changeIP != 0 {
						x = 1 - a
					}
					if change&changePort != 0 {
						y = 1 - p
					}
					return sockets[x][y]
				})
			})
		}
	}
	fmt.Println("{}")
	<-ctx.Done()
	return nil
}

func accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		conn.Close()
	}
}

func serveSTUN(in *net.UDPConn, from func(change byte) *net.UDPConn) {
	buf := make([]byte, 1500)
	for {
		n, to, err := in.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		m := &stun.Message{Raw: slices.Clone(buf[:n])}
		if m.Decode() != nil || m.Type != stun.BindingRequest {
			continue
		}
		var change byte
		if v, err := m.Get(stun.AttrChangeRequest); err == nil && len(v) == 4 {
			change = v[3]
		}
		answer, err := stun.Build(m, stun.BindingSuccess, &stun.XORMappedAddress{IP: to.Addr().AsSlice(), Port: int(to.Port())})
		if err == nil {
			_, _ = from(change).WriteToUDPAddrPort(answer.Raw, to)
		}
	}
}

// asker is a socket that asks STUN servers.
type asker struct{ *net.UDPConn }

func newAsker() (asker, error) {
	conn, err := net.ListenUDP("udp4", nil)
	return asker{conn}, err
}

var errNoAnswer = errors.New("no answer")

// ask sends a binding request up to so many times, and returns how the server
// sees the socket and how long the answer took.
func (a asker) ask(to netip.AddrPort, change byte, tries int) (mapped netip.AddrPort, took time.Duration, err error) {
	for range tries {
		request, err := stun.Build(stun.TransactionID, stun.BindingRequest, stun.RawAttribute{Type: stun.AttrChangeRequest, Value: []byte{0, 0, 0, change}})
		if err != nil {
			return mapped, 0, err
		}
		at := time.Now()
		if _, err := a.WriteToUDPAddrPort(request.Raw, to); err != nil {
			return mapped, 0, err
		}
		if mapped, ok := a.answer(request.TransactionID, at.Add(500*time.Millisecond)); ok {
			return mapped, time.Since(at), nil
		}
	}
	return mapped, 0, errNoAnswer
}

func (a asker) answer(id [stun.TransactionIDSize]byte, until time.Time) (mapped netip.AddrPort, ok bool) {
	buf := make([]byte, 1500)
	a.SetReadDeadline(until)
	for {
		n, _, err := a.ReadFromUDPAddrPort(buf)
		if err != nil {
			return mapped, false
		}
		m := &stun.Message{Raw: buf[:n]}
		var seen stun.XORMappedAddress
		if m.Decode() != nil || m.TransactionID != id || seen.GetFrom(m) != nil {
			continue
		}
		ip, _ := netip.AddrFromSlice(seen.IP)
		return netip.AddrPortFrom(ip.Unmap(), uint16(seen.Port)), true
	}
}

// A found is what a probe says of the network that it is in.
type found struct {
	UDP       bool
	TCP       []int // ports that are reached
	Mapping   string
	Filtering string
	Mapped    netip.AddrPort
	Routers   int           // on the way to the server
	RTT       time.Duration // the smallest of some
}

// What a mapping or a filter goes by.
const (
	independent = "endpoint-independent"
	byAddress   = "address-dependent"
	byPort      = "address and port-dependent"
)

// probe finds out what NAT it is behind, as RFC 5780 says, with a server at two
// addresses.
func probe(ctx context.Context, args []string) error {
	var servers [2][2]netip.AddrPort
	for a := range servers {
		for p := range servers[a] {
			servers[a][p] = netip.AddrPortFrom(netip.MustParseAddr(args[a]), stunPorts[p])
		}
	}
	var f found
	for _, port := range []int{highPort, webPort} {
		dialer := net.Dialer{Timeout: 3 * time.Second}
		if conn, err := dialer.DialContext(ctx, "tcp4", fmt.Sprintf("%s:%d", args[0], port)); err == nil {
			f.TCP = append(f.TCP, port)
			conn.Close()
		}
	}
	for _, look := range []func([2][2]netip.AddrPort) error{f.mapping, f.filtering, f.distance} {
		if err := look(servers); err != nil {
			return err
		}
	}
	return json.NewEncoder(os.Stdout).Encode(f)
}

func (f *found) mapping(servers [2][2]netip.AddrPort) error {
	a, err := newAsker()
	if err != nil {
		return err
	}
	defer a.Close()
	var mapped [3]netip.AddrPort
	for i, to := range []netip.AddrPort{servers[0][0], servers[1][0], servers[1][1]} {
		if mapped[i], _, err = a.ask(to, 0, 4); errors.Is(err, errNoAnswer) {
			return nil
		} else if err != nil {
			return err
		}
	}
	f.UDP, f.Mapped = true, mapped[0]
	switch {
	case mapped[0] == mapped[1] && mapped[1] == mapped[2]:
		f.Mapping = independent
	case mapped[1] == mapped[2]:
		f.Mapping = byAddress
	default:
		f.Mapping = byPort
	}
	return nil
}

// filtering asks one address only, from a socket that has asked no other.
func (f *found) filtering(servers [2][2]netip.AddrPort) error {
	if !f.UDP {
		return nil
	}
	a, err := newAsker()
	if err != nil {
		return err
	}
	defer a.Close()
	f.Filtering = byPort
	for _, way := range []struct {
		change byte
		means  string
	}{{changeIP | changePort, independent}, {changePort, byAddress}} {
		if _, _, err := a.ask(servers[0][0], way.change, 3); err == nil {
			f.Filtering = way.means
			return nil
		}
	}
	return nil
}

// distance counts routers, by the hops that a packet needs, and takes the time.
func (f *found) distance(servers [2][2]netip.AddrPort) error {
	if !f.UDP {
		return nil
	}
	a, err := newAsker()
	if err != nil {
		return err
	}
	defer a.Close()
	for range 10 {
		if _, took, err := a.ask(servers[0][0], 0, 4); err == nil && (f.RTT == 0 || took < f.RTT) {
			f.RTT = took
		}
	}
	packets := ipv4.NewPacketConn(a.UDPConn)
	for hops := 1; hops < 8; hops++ {
		if err := packets.SetTTL(hops); err != nil {
			return err
		}
		if _, _, err := a.ask(servers[0][0], 0, 2); err == nil {
			f.Routers = hops - 1
			return nil
		}
	}
	return errNoAnswer
}

// sight is how a program that stays sees its network: its own addresses and how
// a server sees it.
type sight struct {
	Own    []string
	Mapped netip.AddrPort
	At     time.Time
}

// watch asks a server ten times a second, from one socket, and prints each
// answer.
func watch(ctx context.Context, args []string) error {
	a, err := newAsker()
	if err != nil {
		return err
	}
	defer a.Close()
	to := netip.AddrPortFrom(netip.MustParseAddr(args[0]), stunPorts[0])
	for ctx.Err() == nil {
		// Between two networks there is no route.
		if mapped, _, err := a.ask(to, 0, 1); err == nil {
			own, _ := net.InterfaceAddrs()
			s := sight{Mapped: mapped, At: time.Now()}
			for _, address := range own {
				s.Own = append(s.Own, address.String())
			}
			if err := json.NewEncoder(os.Stdout).Encode(s); err != nil {
				return err
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	return nil
}

// flooded counts requests and their answers.
type flooded struct{ Sent, Answered int }

// flood sends many requests, each once.
func flood(ctx context.Context, args []string) error {
	a, err := newAsker()
	if err != nil {
		return err
	}
	defer a.Close()
	to := netip.AddrPortFrom(netip.MustParseAddr(args[0]), stunPorts[0])
	f := flooded{Sent: 2000}
	for range f.Sent / 100 {
		var waiting [][stun.TransactionIDSize]byte
		for range 100 {
			request := stun.MustBuild(stun.TransactionID, stun.BindingRequest)
			waiting = append(waiting, request.TransactionID)
			if _, err := a.WriteToUDPAddrPort(request.Raw, to); err != nil {
				return err
			}
		}
		f.Answered += a.answers(waiting, time.Now().Add(200*time.Millisecond))
	}
	return json.NewEncoder(os.Stdout).Encode(f)
}

func (a asker) answers(waiting [][stun.TransactionIDSize]byte, until time.Time) (n int) {
	buf := make([]byte, 1500)
	a.SetReadDeadline(until)
	for n < len(waiting) {
		size, _, err := a.ReadFromUDPAddrPort(buf)
		if err != nil {
			return n
		}
		m := &stun.Message{Raw: buf[:size]}
		if m.Decode() == nil && slices.Contains(waiting, m.TransactionID) {
			n++
		}
	}
	return n
}
