package portmap

import (
	"bufio"
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/huin/goupnp"
	igd "github.com/huin/goupnp/dcps/internetgateway2"
	"github.com/huin/goupnp/soap"
)

const (
	nameUPnP    = "upnp"
	ssdpPort    = 1900
	upnpMost    = 256 << 10 // of what a router says to one request
	upnpName    = "peerserver"
	upnpTries   = 4 // router's ports, when those wished for are others'
	onlyForEver = "725"
	isTaken     = "718"
)

// service is what the three kinds of a router's connection have in common.
type service interface {
	AddPortMappingCtx(ctx context.Context, remote string, external uint16, transport string, internal uint16,
		client string, enabled bool, description string, seconds uint32) error
	DeletePortMappingCtx(ctx context.Context, remote string, external uint16, transport string) error
	GetExternalIPAddressCtx(ctx context.Context) (string, error)
}

// upnp is a router that speaks UPnP IGD.
type upnp struct {
	gateway Gateway
	s       service
}

// findUPnP searches for the router's description and takes its first connection.
func findUPnP(ctx context.Context, g Gateway) (client, error) {
	at, err := searchRouter(ctx, g)
	if err != nil {
		return nil, err
	}
	web := routerWeb(g)
	root, err := describe(ctx, web, at)
	if err != nil {
		return nil, err
	}
	for _, kind := range []struct {
		urn  string
		wrap func(goupnp.ServiceClient) service
	}{
		{igd.URN_WANIPConnection_2, func(c goupnp.ServiceClient) service { return &igd.WANIPConnection2{ServiceClient: c} }},
		{igd.URN_WANIPConnection_1, func(c goupnp.ServiceClient) service { return &igd.WANIPConnection1{ServiceClient: c} }},
		{igd.URN_WANPPPConnection_1, func(c goupnp.ServiceClient) service { return &igd.WANPPPConnection1{ServiceClient: c} }},
	} {
		clients, err := goupnp.NewServiceClientsFromRootDevice(root, at, kind.urn)
		if err != nil || len(clients) == 0 {
			continue
		}
		clients[0].SOAPClient.HTTPClient = *web
		return &upnp{g, kind.wrap(clients[0])}, nil
	}
	return nil, errors.New("the router has UPnP, but no connection that maps ports")
}

func (u *upnp) name() string { return nameUPnP }

func (u *upnp) address(ctx context.Context) (netip.Addr, error) {
	s, err := u.s.GetExternalIPAddressCtx(ctx)
	if err != nil {
		return netip.Addr{}, soapError(err)
	}
	return netip.ParseAddr(s)
}

func (u *upnp) add(ctx context.Context, p Port, external uint16) (uint16, time.Duration, error) {
	seconds := uint32(lifetime / time.Second)
	for try := 0; ; try++ {
		err := u.s.AddPortMappingCtx(ctx, "", external, strings.ToUpper(transport(p)), p.Number, u.gateway.Local.String(), true, upnpName, seconds)
		code := soapCode(err)
		switch {
		case err == nil:
			return external, lifetime, nil
		case code == onlyForEver && seconds != 0:
			seconds = 0 // it is removed in the end
		case code == isTaken && !p.Exact && try < upnpTries:
			external = uint16(20000 + rand.IntN(40000)) // #nosec -- a port is no secret
		default:
			return 0, 0, soapError(err)
		}
	}
}

func (u *upnp) remove(ctx context.Context, m Mapping) error {
	return soapError(u.s.DeletePortMappingCtx(ctx, "", m.External, strings.ToUpper(transport(m.Port))))
}

// soapCode is UPnP's own number of an error.
func soapCode(err error) string {
	if fault, ok := errors.AsType[*soap.SOAPFaultError](err); ok {
		return fmt.Sprint(fault.Detail.UPnPError.Errorcode)
	}
	return ""
}

// soapError has no address and nothing that the router has written.
func soapError(err error) error {
	switch code := soapCode(err); {
	case err == nil:
		return nil
	case code != "":
		return fmt.Errorf("the router refuses with UPnP's code %s", code)
	}
	return errors.New("the router does not answer UPnP as it should")
}

// searchRouter finds where the router's description is. Only what comes from the
// router is heard, and only what is on it taken.
func searchRouter(ctx context.Context, g Gateway) (*url.URL, error) {
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(g.Local, 0)))
	if err != nil {
		return nil, bare(err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })()
	for _, to := range []netip.Addr{g.Router, netip.AddrFrom4([4]byte{239, 255, 255, 250})} {
		for _, kind := range []string{"2", "1"} {
			question := "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\n" +
				"ST: urn:schemas-upnp-org:device:InternetGatewayDevice:" + kind + "\r\n\r\n"
			_, _ = conn.WriteToUDPAddrPort([]byte(question), netip.AddrPortFrom(to, ssdpPort)) // one of them is enough
		}
	}
	buf := make([]byte, 2048)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return nil, errors.New("the router does not answer UPnP's search")
		}
		if from.Addr().Unmap() != g.Router {
			continue
		}
		if at := location(buf[:n], g.Router); at != nil {
			return at, nil
		}
	}
}

// location is where an answer says that the description is, nil if it does not or
// if that is not on the router.
func location(answer []byte, router netip.Addr) *url.URL {
	r, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(answer)), nil)
	if err != nil {
		return nil
	}
	_ = r.Body.Close()
	at, err := url.Parse(r.Header.Get("Location"))
	if err != nil || r.StatusCode != http.StatusOK || at.Scheme != "http" || at.Hostname() != router.String() {
		return nil
	}
	return at
}

// routerWeb speaks HTTP with the router and nobody else, whatever it is told.
func routerWeb(g Gateway) *http.Client {
	dial := func(ctx context.Context, _, at string) (net.Conn, error) {
		to, err := netip.ParseAddrPort(at)
		if err != nil || to.Addr() != g.Router {
			return nil, errors.New("the router names another machine")
		}
		return new(net.Dialer).DialContext(ctx, "tcp4", at)
	}
	return &http.Client{
		Timeout: callTime,
		Transport: limited{&http.Transport{
			DialContext: dial, DisableKeepAlives: true, MaxResponseHeaderBytes: 16 << 10,
		}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// limited bounds what is read of an answer.
type limited struct{ next http.RoundTripper }

func (l limited) RoundTrip(q *http.Request) (*http.Response, error) {
	r, err := l.next.RoundTrip(q)
	if err == nil {
		r.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(r.Body, upnpMost), r.Body}
	}
	return r, err
}

// describe reads the router's description.
func describe(ctx context.Context, web *http.Client, at *url.URL) (*goupnp.RootDevice, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, err
	}
	r, err := web.Do(q)
	if err != nil {
		return nil, errors.New("the router's description is not to be had")
	}
	defer r.Body.Close()
	root := new(goupnp.RootDevice)
	if r.StatusCode != http.StatusOK || xml.NewDecoder(r.Body).Decode(root) != nil {
		return nil, errors.New("the router's description does not parse")
	}
	base := at
	if u, err := url.Parse(root.URLBaseStr); err == nil && u.Host != "" {
		base = u
	}
	root.SetURLBase(base)
	return root, nil
}
