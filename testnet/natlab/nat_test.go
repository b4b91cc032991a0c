//go:build linux

package natlab_test

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/peerservers/peerserver/testnet/natlab"
)

// stunScene is a lab with the STUN server, whose two addresses it returns.
func stunScene(t *testing.T, config natlab.Config) (*natlab.Lab, []string) {
	t.Helper()
	lab := natlab.Start(t, config)
	host := lab.Server("stun")
	at := []string{host.Addr().String(), host.Alias().String()}
	host.StartSelf(t, "stun", at...).Await(patience, "start", func(string) bool { return true })
	return lab, at
}

// Every NAT is of its kind, as a program behind it finds out that knows nothing
// of how it is made.
func TestKinds(t *testing.T) {
	lab, servers := stunScene(t, natlab.Config{})
	for kind, want := range map[natlab.NAT]found{
		natlab.Public:            {Mapping: independent, Filtering: independent},
		natlab.FullCone:          {Mapping: independent, Filtering: independent, Routers: 1},
		natlab.AddressRestricted: {Mapping: independent, Filtering: byAddress, Routers: 1},
		natlab.PortRestricted:    {Mapping: independent, Filtering: byPort, Routers: 1},
		natlab.Symmetric:         {Mapping: byPort, Filtering: byPort, Routers: 1},
		natlab.Double:            {Mapping: independent, Filtering: byPort, Routers: 2},
		natlab.UDPBlocked:        {TCP: []int{highPort, webPort}},
		natlab.WebOnly:           {TCP: []int{webPort}},
	} {
		home := lab.Home(strings.ReplaceAll(kind.String(), " ", "-"), kind)
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			got := await(t, home.StartSelf(t, "probe", servers...), patience, "result", anything[found])
			if want.UDP = want.TCP == nil; want.UDP {
				want.TCP = []int{highPort, webPort}
			}
			if want.UDP && (got.Mapped.Addr() == home.Addr()) != (kind == natlab.Public) {
				t.Errorf("%s is seen at %s", home.Addr(), got.Mapped)
			}
			got.Mapped, got.RTT = netip.AddrPort{}, 0
			if !reflect.DeepEqual(got, want) {
				t.Errorf("it is %+v, want %+v", got, want)
			}
		})
	}
	if kinds := natlab.Kinds(); len(kinds) != 8 {
		t.Errorf("kinds without a test: %v", kinds)
	}
}

// Two machines of one home share its address, and each has its own mappings.
func TestTwoMachinesOfAHome(t *testing.T) {
	lab, servers := stunScene(t, natlab.Config{})
	home := lab.Network("home", natlab.FullCone)
	first := await(t, home.Host("one").StartSelf(t, "watch", servers[0]), patience, "answer", anything[sight])
	second := await(t, home.Host("two").StartSelf(t, "watch", servers[0]), patience, "answer", anything[sight])
	if router := home.Router().Addr(); first.Mapped.Addr() != router || second.Mapped.Addr() != router || first.Mapped == second.Mapped {
		t.Errorf("seen at %s and %s", first.Mapped, second.Mapped)
	}
}

// Delay and loss are those of the internet, whatever is between.
func TestDelayAndLoss(t *testing.T) {
	const delay = 20 * time.Millisecond
	lab, servers := stunScene(t, natlab.Config{Delay: delay, Loss: 0.2})
	for _, kind := range []natlab.NAT{natlab.Public, natlab.Double} {
		home := lab.Home(strings.ReplaceAll(kind.String(), " ", "-"), kind)
		f := await(t, home.StartSelf(t, "probe", servers...), patience, "result", anything[found])
		t.Logf("%s: %s there and back", kind, f.RTT)
		if f.RTT < 2*delay || f.RTT > 3*delay {
			t.Errorf("%s: there and back takes %s, with a delay of %s", kind, f.RTT, delay)
		}
		c := await(t, home.StartSelf(t, "flood", servers[0]), patience, "result", anything[flooded])
		// Both ways have to be lucky: 0.64. Five times the standard deviation is 0.054.
		share := float64(c.Answered) / float64(c.Sent)
		t.Logf("%s: %.3f are answered", kind, share)
		if share < 0.58 || share > 0.70 {
			t.Errorf("%s: a share of %.3f is answered, want 0.64", kind, share)
		}
	}
}

// What a machine sends while its cable is cut is lost; then all is as before.
func TestCut(t *testing.T) {
	lab, servers := stunScene(t, natlab.Config{})
	home := lab.Home("home", natlab.Symmetric)
	p := home.StartSelf(t, "watch", servers[0])
	before := await(t, p, patience, "answer", anything[sight])
	home.Cable().Cut()
	cut := time.Now()
	time.Sleep(2 * time.Second)
	for _, s := range sights(t, p) {
		if s.At.After(cut.Add(500 * time.Millisecond)) {
			t.Fatal("an answer comes through a cable that is cut")
		}
	}
	home.Cable().Heal()
	healed := time.Now()
	after := await(t, p, patience, "answer after the cut", func(s sight) bool { return s.At.After(healed) })
	if after.Mapped != before.Mapped {
		t.Errorf("it was seen at %s, and is at %s", before.Mapped, after.Mapped)
	}
}

// A machine that is moved has another address, and so has its program to others;
// then it goes to the internet itself, and back.
func TestMoveAnywhere(t *testing.T) {
	lab, servers := stunScene(t, natlab.Config{})
	home, cafe := lab.Home("home", natlab.PortRestricted), lab.Network("cafe", natlab.Symmetric)
	was := home.Network()
	p := home.StartSelf(t, "watch", servers[0])
	seen := await(t, p, patience, "answer", anything[sight]).Mapped.Addr()
	for _, to := range []*natlab.Network{cafe, lab.Internet, was} {
		old := home.Addr()
		home.Move(to)
		moved := time.Now()
		if home.Addr() == old || home.Network() != to {
			t.Fatalf("it is still at %s", home.Addr())
		}
		s := await(t, p, patience, "answer in another network", func(s sight) bool { return s.At.After(moved) && s.Mapped.Addr() != seen })
		if !slices.ContainsFunc(s.Own, func(a string) bool { return strings.HasPrefix(a, home.Addr().String()+"/") }) {
			t.Errorf("at %s the program has the addresses %v", home.Addr(), s.Own)
		}
		if slices.ContainsFunc(s.Own, func(a string) bool { return strings.HasPrefix(a, old.String()+"/") }) {
			t.Errorf("the program still has the address %s", old)
		}
		seen = s.Mapped.Addr()
	}
}

func sights(t *testing.T, p *natlab.Process) (all []sight) {
	t.Helper()
	for _, line := range p.Lines() {
		all = append(all, parse[sight](t, line))
	}
	return all
}
