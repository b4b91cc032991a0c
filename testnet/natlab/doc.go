// Package natlab is an internet in a box: homes behind NATs of every kind,
// servers, and cables with delay and loss that can be cut and moved, for tests
// that run real programs on them. It needs Linux, root, iproute2 and nftables;
// where those are lacking its tests say so and are skipped.
//
//	func TestMain(m *testing.M) { natlab.Main(m, nil) }
//
//	lab := natlab.Start(t, natlab.Config{Delay: 25 * time.Millisecond})
//	node := lab.Server("node")
//	a, b := lab.Home("a", natlab.Symmetric), lab.Home("b", natlab.FullCone)
//	node.Start(t, peerserver, "node", "--listen", node.Addr().String()+":8787")
//	a.Start(t, peerserver, "join", ...)
//	a.Move(lab.Network("cafe", natlab.PortRestricted))
//	b.Cable().Cut()
//
// [Main] runs the tests in namespaces of their own and [Start] gives a lab that
// ends with the test. A [Host] is a machine, on which programs are started; a
// [Network] is what a machine's [Cable] leads to: the internet, or the LAN behind
// the router of a home.
//
//	 [server]   [server]
//	44.128.1.1 44.128.2.1
//	     |cable     |cable
//	=====+==========+===========+=================+========  the internet: a Network, one Switch;
//	                            |                 |          each cable has half of the delay
//	                       44.129.1.1        44.129.2.1
//	                      [router, NAT]     [router, NAT]    nft rules: nat.go
//	                        10.0.1.1          10.0.2.1
//	                            |                 |
//	                    ====+===+====     ====+===+====      the homes: a Network each
//	                        |cable            |cable
//	                    [host a]          [host b]
//	                    10.0.1.2          10.0.2.2
//
// Hosts and routers are network namespaces. What joins them is no bridge of the
// kernel but the test's own process: each cable is a TAP device, whose frames a
// [Switch] carries on. So delay, loss, cuts and moves are the same on every
// kernel, those without netem too.
//
// Nothing can be left behind. All of it, with the folder for temporary files,
// hangs on the process that [Main] starts: the first one of a PID namespace, with
// mounts of its own. When it ends, however it ends, the kernel ends every process
// in it and with them the namespaces, devices and mounts; and it ends with the
// one that has started it. Names are seen only within, so runs do not collide.
// To look inside while a test runs: nsenter -a -t PID, then ip netns.
//
// enter.go is Main; lab.go and network.go lay out, nat.go is the rules of each
// kind of NAT; host.go and process.go run programs; cable.go, tap.go and
// switch.go carry frames.
package natlab
