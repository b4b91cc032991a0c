package peer

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/transport/v4"
	"github.com/pion/transport/v4/stdnet"
)

// answerWithin is how long a server for TURN, or its name, has to be found.
// pion itself waits for minutes, and a connection that is to end waits with it.
const answerWithin = 3 * time.Second

// sockets is this machine's network for pion. Its interfaces are those that
// there are now, so that an ICE restart finds the way over another one, and no
// server that is silent is waited for without end.
type sockets struct{ *stdnet.Net }

func (sockets) Interfaces() ([]*transport.Interface, error) {
	now, err := stdnet.NewNet()
	if err != nil {
		return nil, err
	}
	return now.Interfaces()
}

func (sockets) InterfaceByIndex(index int) (*transport.Interface, error) {
	now, err := stdnet.NewNet()
	if err != nil {
		return nil, err
	}
	return now.InterfaceByIndex(index)
}

func (sockets) InterfaceByName(name string) (*transport.Interface, error) {
	now, err := stdnet.NewNet()
	if err != nil {
		return nil, err
	}
	return now.InterfaceByName(name)
}

// ListenPacket is only for TURN: candidates have ListenUDP.
func (s sockets) ListenPacket(network, address string) (net.PacketConn, error) {
	c, err := s.Net.ListenPacket(network, address)
	if err != nil {
		return nil, err
	}
	p := &askingPacket{PacketConn: c}
	p.patience = time.AfterFunc(answerWithin, func() { c.Close() })
	return p, nil
}

// askingPacket is closed when nothing is heard in time.
type askingPacket struct {
	net.PacketConn
	patience *time.Timer
}

func (p *askingPacket) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := p.PacketConn.ReadFrom(b)
	p.patience.Stop()
	return n, from, err
}

func (p *askingPacket) Close() error {
	p.patience.Stop()
	return p.PacketConn.Close()
}

func (s sockets) DialTCP(network string, laddr, raddr *net.TCPAddr) (transport.TCPConn, error) {
	d := net.Dialer{Timeout: answerWithin}
	if laddr != nil {
		d.LocalAddr = laddr
	}
	c, err := d.Dial(network, raddr.String())
	if err != nil {
		return nil, err
	}
	tcp := c.(*net.TCPConn)
	t := &askingStream{TCPConn: tcp}
	t.patience = time.AfterFunc(answerWithin, func() { tcp.Close() })
	return t, nil
}

// askingStream is askingPacket for TCP and TLS.
type askingStream struct {
	*net.TCPConn
	patience *time.Timer
	once     sync.Once
}

func (t *askingStream) Read(b []byte) (int, error) {
	n, err := t.TCPConn.Read(b)
	t.once.Do(func() { t.patience.Stop() })
	return n, err
}

func (t *askingStream) Close() error {
	t.patience.Stop()
	return t.TCPConn.Close()
}

func (sockets) ResolveUDPAddr(network, address string) (*net.UDPAddr, error) {
	a, err := resolve(network, address)
	if err != nil {
		return nil, err
	}
	return net.UDPAddrFromAddrPort(a), nil
}

func (sockets) ResolveTCPAddr(network, address string) (*net.TCPAddr, error) {
	a, err := resolve(network, address)
	if err != nil {
		return nil, err
	}
	return net.TCPAddrFromAddrPort(a), nil
}

// resolve looks a server up, for a network like udp4.
func resolve(network, address string) (netip.AddrPort, error) {
	ctx, cancel := context.WithTimeout(context.Background(), answerWithin)
	defer cancel()
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return netip.AddrPort{}, err
	}
	port, err := net.DefaultResolver.LookupPort(ctx, network, service)
	if err != nil {
		return netip.AddrPort{}, err
	}
	family := "ip"
	if n := len(network); n > 0 && (network[n-1] == '4' || network[n-1] == '6') {
		family += network[n-1:]
	}
	list, err := net.DefaultResolver.LookupNetIP(ctx, family, host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return netip.AddrPortFrom(list[0].Unmap(), uint16(port)), nil
}
