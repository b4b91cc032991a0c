package portmap

import (
	"context"
	"net/netip"
	"time"

	natpmp "github.com/jackpal/go-nat-pmp"
)

const nameNATPMP = "nat-pmp"

// pmp is a router that speaks NAT-PMP, RFC 6886.
type pmp struct{ c *natpmp.Client }

func findNATPMP(ctx context.Context, g Gateway) (client, error) {
	p := &pmp{natpmp.NewClientWithLocalAndTimeout(g.Router.AsSlice(), g.Local.AsSlice(), callTime)}
	if _, err := p.address(ctx); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *pmp) name() string { return nameNATPMP }

// The library knows no contexts; it ends after callTime.

func (p *pmp) address(context.Context) (netip.Addr, error) {
	r, err := p.c.GetExternalAddress()
	if err != nil {
		return netip.Addr{}, bare(err)
	}
	return netip.AddrFrom4(r.ExternalIPAddress), nil
}

func (p *pmp) add(_ context.Context, port Port, external uint16) (uint16, time.Duration, error) {
	r, err := p.c.AddPortMappingWithDuration(transport(port), int(port.Number), int(external), lifetime)
	if err != nil {
		return 0, 0, bare(err)
	}
	return r.MappedExternalPort, time.Duration(r.PortMappingLifetimeInSeconds) * time.Second, nil
}

func (p *pmp) remove(_ context.Context, m Mapping) error {
	_, err := p.c.AddPortMapping(transport(m.Port), int(m.Number), 0, 0)
	if err != nil {
		return bare(err)
	}
	return nil
}

func transport(p Port) string {
	if p.TCP {
		return "tcp"
	}
	return "udp"
}
