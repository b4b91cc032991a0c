package doctor

import "fmt"

// Code names what is wrong, for programs. It does not change.
type Code string

// Codes.
const (
	CodeOK Code = "ok"

	NodeDown       Code = "node_down"
	NodeOther      Code = "not_a_node"
	NodeDenied     Code = "node_private"
	NodeDraining   Code = "node_draining"
	ProxyNoNode    Code = "proxy_no_node"
	URLNotHere     Code = "url_not_reached"
	RecordNone     Code = "record_none"
	RecordInvalid  Code = "record_invalid"
	RecordExpired  Code = "record_expired"
	RecordFuture   Code = "record_future"
	URLNotInRecord Code = "url_not_in_record"
	ClockOff       Code = "clock_off"
	ClockWrong     Code = "clock_wrong"
	ClockHere      Code = "clock_here_wrong"
	DHTOff         Code = "dht_off"
	DHTAlone       Code = "dht_alone"
	DHTFew         Code = "dht_few_nodes"
	DHTUnpublished Code = "dht_not_published"
	DHTPort        Code = "dht_port_closed"
	DHTHere        Code = "dht_not_reached"
	DHTMissing     Code = "dht_record_missing"
	DHTOld         Code = "dht_record_old"
	ReachUnknown   Code = "reach_unknown"
	ReachNone      Code = "not_reachable"
	ReachPort      Code = "port_closed"
	PortmapFailed  Code = "portmap_failed"
	TLSNone        Code = "tls_none"
	TLSFailed      Code = "tls_failed"
	TLSExpired     Code = "tls_expired"
	TLSSoon        Code = "tls_expires_soon"
	TLSEarly       Code = "tls_not_yet_valid"
	TLSName        Code = "tls_wrong_name"
	TLSUntrusted   Code = "tls_untrusted"
	TLSOld         Code = "tls_old_versions"
	TLSRenewal     Code = "tls_not_renewed"
	HTTPPlain      Code = "http_not_redirected"
	WSUpgrade      Code = "ws_not_upgraded"
	WSPath         Code = "ws_path_missing"
	WSFailed       Code = "ws_failed"
	WSPong         Code = "ws_no_pong"
	WSIdle         Code = "ws_idle_closed"
	WSLarge        Code = "ws_large_lost"
	ProxyUntrusted Code = "proxy_not_trusted"
	ProxySilent    Code = "proxy_not_forwarding"
	SeenNone       Code = "proxy_unknown"
	LoginFailed    Code = "login_failed"
	LoginOff       Code = "login_off"
	STUNNone       Code = "stun_none"
	STUNSilent     Code = "stun_no_reply"
	STUNOther      Code = "stun_other_no_reply"
	TURNOff        Code = "turn_off"
	TURNSilent     Code = "turn_no_reply"
	TURNDenied     Code = "turn_denied"
	TURNFull       Code = "turn_full"
	TURNPorts      Code = "turn_ports_closed"
	TURNAddress    Code = "turn_private_address"
	TURNOther      Code = "turn_other_failed"
	UDPBlocked     Code = "udp_blocked"
	UDPUnknown     Code = "udp_not_seen"
	NATSymmetric   Code = "nat_symmetric"
	NATUnknown     Code = "nat_unknown"
	NotTried       Code = "not_tried"
	OutOfTime      Code = "out_of_time"
)

// Fault is something that may be wrong, and what to do about it.
type Fault struct {
	Code  Code
	State State
	Do    string
}

// Faults are all that there are, in the order of the checks.
func Faults() []Fault {
	return []Fault{
		{NodeDown, Failed, "See whether the node runs, whether the URL is right, and whether a firewall lets TCP to its port in."},
		{ProxyNoNode, Failed, "See whether the node runs, and whether the proxy forwards to the address of its --listen."},
		{NodeOther, Failed, "See whether the URL is right; a proxy has to forward every path to the node, and keep the paths as they are."},
		{NodeDenied, Skipped, "Give the URL with one of the node's tokens, as https://node.example.org/?token=TOKEN, to have all of it looked at."},
		{NodeDraining, Warning, "Wait until it has restarted, and look again."},
		{URLNotHere, Warning, "Run doctor with this URL from another network too: some routers do not let a network reach its own public address."},
		{RecordNone, Warning, "Say with --url wss://host where other nodes reach it. Without that it serves its clients and dials out, and two such nodes do not meet."},
		{RecordInvalid, Failed, "See whether something on the way changes what the node says, as a cache would; then restart the node."},
		{RecordExpired, Failed, "See whether a proxy caches /.well-known/peerserver, and whether the clocks are right; then restart the node."},
		{RecordFuture, Failed, "Set the clock of the node's machine, by NTP."},
		{URLNotInRecord, Warning, "Add this URL to the node's --url, or use one of those in its record: peers log in at a URL that the node knows as its own."},
		{ClockOff, Warning, "Set the clocks by NTP before they are off by more: TURN credentials allow 5 minutes, records 10."},
		{ClockWrong, Failed, "Set the clock of the node's machine, by NTP: with more than 5 minutes TURN credentials fail, with more than 10 no other node takes the node's record."},
		{ClockHere, Warning, "Set the clock of this machine, by NTP. The node's is as those of other nodes."},
		{DHTOff, Skipped, "Nothing, if that is meant; else start it without --dht=false."},
		{DHTAlone, Failed, "Let UDP out and, on the node's port, in; --bootstrap names other nodes of the DHT."},
		{DHTFew, Warning, "Let UDP on the node's port in. A node that has just started takes some minutes."},
		{DHTUnpublished, Warning, "Wait for a minute if it has just started; then let UDP on the node's port in and out, and do not start it with --announce=false."},
		{DHTPort, Failed, "Let UDP on the node's port in, beside TCP: a proxy forwards TCP alone."},
		{DHTHere, Skipped, "Let UDP out of the machine that doctor runs on, or name nodes of the DHT with --bootstrap."},
		{DHTMissing, Failed, "See the other findings on the DHT; a node that has just started is found after some minutes."},
		{DHTOld, Warning, "Wait for some minutes and look again. If it stays, see whether two nodes run with copies of one data folder."},
		{ReachUnknown, Skipped, "Run doctor with the node's URL from another network: that is a view from outside."},
		{ReachNone, Failed, "Let the port in at the firewall, and forward it at the router, or start the node with --portmap. It federates by dialling out meanwhile."},
		{ReachPort, Warning, "Let the port in at the firewall, and forward it at the router, or start the node with --portmap."},
		{PortmapFailed, Warning, "Switch UPnP, NAT-PMP or PCP on at the router, or forward the ports there by hand."},
		{TLSNone, Warning, "Put a proxy with TLS in front, or give the node a certificate with --tls-domain or --tls-cert: pages from https:// cannot open ws://."},
		{TLSFailed, Failed, "See whether the port of the URL is the one that speaks TLS, and what the proxy or node says in its log."},
		{TLSExpired, Failed, "Renew the certificate. With --tls-domain the node does so by itself: let TCP to port 443, or 80 with --acme-http, in."},
		{TLSSoon, Warning, "Renew the certificate, and see why that has not happened by itself."},
		{TLSEarly, Failed, "Set the clock of the machine that made the certificate, or of this one."},
		{TLSName, Failed, "Get a certificate for this name, or use one of the names that it is for."},
		{TLSUntrusted, Failed, "Use a certificate of a CA that browsers know, and give the server the whole chain: with --tls-cert a file that has the intermediate ones too."},
		{TLSOld, Warning, "Switch TLS 1.0 and 1.1 off in the proxy; browsers have not used them for years."},
		{TLSRenewal, Warning, "See the node's log: it names the error."},
		{HTTPPlain, Warning, "Have http:// answered with a redirect to https://, or close port 80. A page from http:// has no secure context."},
		{WSUpgrade, Failed, "Have the proxy forward Upgrade. nginx: proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection \"upgrade\"; Caddy's reverse_proxy does so by itself."},
		{WSPath, Failed, "Have the proxy forward every path to the node. nginx: location / { proxy_pass http://127.0.0.1:8787; } without a path behind the port; Caddy: reverse_proxy 127.0.0.1:8787 without a matcher."},
		{WSFailed, Failed, "See the log of the proxy, and whether the node has too many clients of this address (--address-conns)."},
		{WSPong, Failed, "Have the proxy pass WebSocket frames through as they come, without buffering. nginx: proxy_buffering off."},
		{WSIdle, Warning, "Give quiet connections longer. nginx: proxy_read_timeout 150s; proxy_send_timeout 150s; the node pings after 45 s of quiet."},
		{WSLarge, Failed, "Have the proxy pass messages of 64 KiB; some firewalls that inspect WebSockets have a limit of their own."},
		{ProxyUntrusted, Failed, "Start the node with --trusted-proxy and the address of the proxy: until then all clients count as one, and share the quotas of one address."},
		{ProxySilent, Failed, "Have the proxy send X-Forwarded-For. nginx: proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; Caddy does so by itself. And start the node with --trusted-proxy."},
		{SeenNone, Skipped, "Update the node: an older one does not tell."},
		{LoginFailed, Failed, "See the other findings first. A login names the URL that was dialled, which has to be one of the node's --url."},
		{LoginOff, Skipped, "Nothing, if the door peer is switched off on purpose."},
		{STUNNone, Warning, "Start the node without --stun none: without STUN few peers of different networks connect directly."},
		{STUNSilent, Failed, "Let UDP to this port in, at the firewall and the router."},
		{STUNOther, Warning, "That is for the other node's operator; peers of this node try it too."},
		{TURNOff, Skipped, "Start the node with --turn if you can give the traffic: peers without a direct path need it."},
		{TURNSilent, Failed, "Let this port in, UDP and TCP, at the firewall and the router."},
		{TURNDenied, Failed, "See whether the clock of the node is right, and of the node that issues the credentials."},
		{TURNFull, Warning, "The node has no room for more: give it more with --turn-day or --turn-ports, or wait."},
		{TURNPorts, Failed, "Let the UDP ports of --turn-ports (50000-50999) in, at the firewall and the router."},
		{TURNAddress, Failed, "The node does not know its public address: see the findings on reach, and let it link to other nodes."},
		{TURNOther, Warning, "That is for the other node's operator; peers of this node try it too. If it refuses the credentials, compare the clocks of the two."},
		{UDPBlocked, Warning, "That is about the network that doctor runs on: have its firewall let UDP out. TURN over TCP or TLS helps peers there."},
		{UDPUnknown, Skipped, "Run doctor on a network that lets UDP out."},
		{NATSymmetric, Warning, "That is about the network that doctor runs on: peers there need TURN or IPv6."},
		{NATUnknown, Skipped, "Two STUN servers are needed for it: it is known when the node is linked to another that has one."},
		{NotTried, Skipped, "Nothing: there is no need here, or no way."},
		{OutOfTime, Skipped, "Give it longer with --timeout."},
	}
}

// ok is a finding with nothing to do.
func ok(format string, args ...any) Finding {
	return Finding{State: OK, Code: CodeOK, Found: fmt.Sprintf(format, args...)}
}

// bad is a finding of one of the Faults.
func bad(code Code, format string, args ...any) Finding {
	for _, f := range Faults() {
		if f.Code == code {
			return Finding{State: f.State, Code: code, Found: fmt.Sprintf(format, args...), Do: f.Do}
		}
	}
	return Finding{State: Failed, Code: code, Found: fmt.Sprintf(format, args...)}
}

// one is what a check has found that finds one thing.
func one(f Finding) []Finding { return []Finding{f} }
