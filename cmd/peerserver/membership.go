package main

import (
	"flag"
	"fmt"

	"github.com/pion/webrtc/v4"

	"github.com/peerservers/peerserver/peer"
	"github.com/peerservers/peerserver/protocol"
)

// membership says how a command joins an app.
type membership struct {
	nodes        stringList
	secret, name string
	loopback     bool
	lan          bool
}

func (m *membership) flags(fs *flag.FlagSet) {
	fs.Var(&m.nodes, "node", "`URL` of a node, ws://host:port or wss://host, with ?token= behind it if it is private; may be repeated; ws://127.0.0.1:8787 if none is given")
	fs.StringVar(&m.secret, "secret", "", "the app's `secret`: only those who have it are met")
	fs.StringVar(&m.name, "name", "", "`name` that the others are shown")
	fs.BoolVar(&m.lan, "lan", false, "meet peers and nodes on the local network too; only those if no --node is given")
	fs.BoolVar(&m.loopback, "loopback", false, "connect to peers on this machine over loopback too")
}

func (m *membership) options() peer.Options {
	nodes := m.nodes
	if len(nodes) == 0 && !m.lan {
		nodes = stringList{fmt.Sprint("ws://127.0.0.1:", protocol.DefaultPort)}
	}
	setting := peer.Setting()
	setting.SetIncludeLoopbackCandidate(m.loopback)
	return peer.Options{
		Nodes: nodes, LAN: m.lan, Secret: []byte(m.secret), Name: m.name, API: webrtc.NewAPI(webrtc.WithSettingEngine(setting)),
	}
}

// shown is a peer as people are shown it.
func shown(p *peer.Peer) string {
	if p.Name() == "" {
		return p.ID().Short()
	}
	return fmt.Sprintf("%s (%s)", printable(p.Name()), p.ID().Short())
}
