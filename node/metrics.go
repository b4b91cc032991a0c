package node

import (
	"encoding/json"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/peerservers/peerserver/node/ice"
)

// metric is one number of Stats. No label of any metric names an app, a peer
// or an address.
type metric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(s *Stats) float64
}

func gauge[N int | int64 | uint64](name, help string, of func(s *Stats) N) metric {
	return metric{describe(name, help), prometheus.GaugeValue, func(s *Stats) float64 { return float64(of(s)) }}
}

func counter[N int | int64 | uint64](name, help string, of func(s *Stats) N) metric {
	return metric{describe(name+"_total", help), prometheus.CounterValue, func(s *Stats) float64 { return float64(of(s)) }}
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("peerserver_"+name, help, labels, nil)
}

func metricsOfStats() []metric {
	return []metric{
		gauge("uptime_seconds", "How long the node has run.", func(s *Stats) int { return s.Uptime }),
		gauge("clients", "Clients connected.", func(s *Stats) int { return s.Clients.Clients }),
		gauge("members", "Memberships of clients in apps.", func(s *Stats) int { return s.Relay.Members }),
		gauge("apps", "Apps with members on this node.", func(s *Stats) int { return s.Relay.Apps }),
		gauge("links", "Other nodes linked.", func(s *Stats) int { return s.Relay.Links }),
		gauge("nodes_known", "Other nodes whose records are known.", func(s *Stats) int { return s.Relay.Nodes }),
		counter("clients_opened", "Connections of clients.", func(s *Stats) uint64 { return s.Clients.Opened }),
		counter("clients_refused", "Connections refused because their address had too many.", func(s *Stats) uint64 { return s.Clients.RefusedConns }),
		counter("clients_denied", "Clients without a token or of an origin that is not listed.", func(s *Stats) uint64 { return s.Clients.Denied }),
		counter("tls_failed", "TLS handshakes that failed or took too long.", func(s *Stats) uint64 { return s.Clients.FailedTLS }),
		counter("clients_slow_closed", "Clients closed because they did not read.", func(s *Stats) uint64 { return s.Clients.SlowClosed }),
		counter("client_messages_refused", "Messages of clients that were too large or too many.", func(s *Stats) uint64 { return s.Clients.RefusedMessages }),
		counter("client_offers_lost", "Offers for which a slow client had no room.", func(s *Stats) uint64 { return s.Clients.LostOffers }),
		counter("offers", "Offers of clients.", func(s *Stats) uint64 { return s.Relay.Offers }),
		counter("answers", "Answers of clients.", func(s *Stats) uint64 { return s.Relay.Answers }),
		counter("publishes", "Publishes of clients.", func(s *Stats) uint64 { return s.Relay.Publishes }),
		counter("signals", "Messages of clients to one other.", func(s *Stats) uint64 { return s.Relay.Signals }),
		counter("offers_crossed", "Offers sent to other nodes.", func(s *Stats) uint64 { return s.Relay.Crossed }),
		counter("offers_held", "Held offers given to clients that came later.", func(s *Stats) uint64 { return s.Relay.Held }),
		counter("offers_refused", "Offers lost to a slow client or a quota.", func(s *Stats) uint64 { return s.Relay.Refused }),
		counter("offers_replaced", "Offers placed a second time because a node was lost.", func(s *Stats) uint64 { return s.Relay.Replaced }),
	}
}

func metricsOfDHT() []metric {
	return []metric{
		gauge("dht_nodes", "Nodes of the DHT that answer.", func(s *Stats) int { return s.DHT.Nodes }),
		gauge("dht_apps_announced", "Apps under which other nodes can find this one.", func(s *Stats) int { return s.DHT.Announced }),
		gauge("dht_apps_waiting", "Apps under which they cannot find it yet.", func(s *Stats) int { return s.DHT.Waiting }),
		gauge("dht_published", "1 while the node's record is in the DHT.", func(s *Stats) int { return one(s.DHT.Published) }),
	}
}

func metricsOfTLS() []metric {
	return []metric{
		gauge("tls_not_after_seconds", "When the first of the certificates ends, in Unix time; 0 if there is none.", func(s *Stats) int {
			if s.TLS.NotAfter.IsZero() {
				return 0
			}
			return int(s.TLS.NotAfter.Unix())
		}),
		gauge("tls_fault", "1 while something is wrong with them; /stats.json says what.", func(s *Stats) int { return one(s.TLS.Fault != "") }),
	}
}

func metricsOfICE() []metric {
	return []metric{
		gauge("ice_allocations", "Allocations of TURN.", func(s *Stats) int { return s.ICE.Allocations }),
		gauge("ice_peers", "Peers that have one.", func(s *Stats) int { return s.ICE.Peers }),
		gauge("ice_connections", "Connections to TURN over TCP and TLS.", func(s *Stats) int { return s.ICE.Conns }),
		counter("ice_bindings", "Questions to STUN that were answered.", func(s *Stats) int64 { return s.ICE.Bindings }),
		counter("ice_received_bytes", "Payload that TURN took from its clients.", func(s *Stats) int64 { return s.ICE.BytesIn }),
		counter("ice_sent_bytes", "Payload that TURN gave to its clients.", func(s *Stats) int64 { return s.ICE.BytesOut }),
		gauge("ice_day_bytes", "Both, since midnight UTC; --turn-day bounds it.", func(s *Stats) int64 { return s.ICE.BytesToday }),
	}
}

// What others have found out by trying: 1 they reach it, 0 they do not, -1 it is
// not known.
func metricsOfReach() []metric {
	return []metric{
		gauge("reach_tcp", "1 if other nodes reach the node's port, 0 if they do not, -1 if that is not known.", func(s *Stats) int { return reached(s.Reach.TCP) }),
		gauge("reach_stun", "The same of its UDP port of STUN.", func(s *Stats) int { return reached(s.Reach.STUN) }),
		gauge("reach_portmap", "With --portmap: 1 if a router maps the ports, 0 if none does; -1 without.", func(s *Stats) int {
			switch s.Reach.PortMap {
			case "":
				return -1
			case "none":
				return 0
			}
			return 1
		}),
	}
}

func reached(s string) int {
	switch s {
	case reachYes:
		return 1
	case reachNo:
		return 0
	}
	return -1
}

func one(is bool) int {
	if is {
		return 1
	}
	return 0
}

// statsCollector reads Stats once for each scrape.
type statsCollector struct {
	n           *Node
	always      []metric
	dht, tls    []metric
	ice, reach  []metric
	info, drain *prometheus.Desc
	refused     *prometheus.Desc // by the reasons of ice.Reasons
}

// metrics are the node's own and those of the program.
func (n *Node) metrics() prometheus.Gatherer {
	r := prometheus.NewRegistry()
	r.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		&statsCollector{
			n: n, always: metricsOfStats(), dht: metricsOfDHT(), tls: metricsOfTLS(), ice: metricsOfICE(), reach: metricsOfReach(),
			info:    describe("info", "1, with the version of the program.", "version"),
			drain:   describe("draining", "1 while the node is about to stop."),
			refused: describe("ice_refused_total", "What STUN and TURN have refused or dropped, by reason.", "reason"),
		},
	)
	return r
}

// Describe implements prometheus.Collector. It describes nothing, because a
// door's numbers are the door's own affair: the registry checks them when they
// come.
func (c *statsCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *statsCollector) Collect(out chan<- prometheus.Metric) {
	s := c.n.Stats()
	for _, part := range []struct {
		there   bool
		metrics []metric
	}{
		{true, c.always},
		{s.DHT != nil, c.dht},
		{s.TLS != nil, c.tls},
		{s.ICE != nil, c.ice},
		{s.Reach != nil, c.reach},
	} {
		if !part.there {
			continue
		}
		for _, m := range part.metrics {
			out <- prometheus.MustNewConstMetric(m.desc, m.kind, m.of(&s))
		}
	}
	if s.ICE != nil {
		for _, why := range ice.Reasons() { // all of them: a number that appears later has no rate
			out <- prometheus.MustNewConstMetric(c.refused, prometheus.CounterValue, float64(s.ICE.Refused[why]), why)
		}
	}
	out <- prometheus.MustNewConstMetric(c.info, prometheus.GaugeValue, 1, c.n.cfg.Version)
	out <- prometheus.MustNewConstMetric(c.drain, prometheus.GaugeValue, float64(one(c.n.host.Draining())))
	for door, stats := range s.Doors {
		for name, v := range numbers(stats) {
			out <- prometheus.MustNewConstMetric(describe("door_"+name, "Statistics of a door.", "door"), prometheus.UntypedValue, v, door)
		}
	}
}

// numbers are the numbers that a door shows in /stats.json.
func numbers(stats any) map[string]float64 {
	b, err := json.Marshal(stats)
	if err != nil {
		return nil
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(b, &fields) != nil {
		return nil
	}
	all := make(map[string]float64)
	for name, raw := range fields {
		var v float64
		if json.Unmarshal(raw, &v) == nil && string(raw) != "null" {
			all[name] = v
		}
	}
	return all
}
