package node

import (
	"encoding/json"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// metric is one number of Stats. No label of any metric names an app, a peer
// or an address.
type metric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(s *Stats) float64
}

func gauge[N int | uint64](name, help string, of func(s *Stats) N) metric {
	return metric{describe(name, help), prometheus.GaugeValue, func(s *Stats) float64 { return float64(of(s)) }}
}

func counter[N int | uint64](name, help string, of func(s *Stats) N) metric {
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

func one(is bool) int {
	if is {
		return 1
	}
	return 0
}

// statsCollector reads Stats once for each scrape.
type statsCollector struct {
	n            *Node
	metrics, dht []metric
	tls          []metric
	info, drain  *prometheus.Desc
}

// metrics are the node's own and those of the program.
func (n *Node) metrics() prometheus.Gatherer {
	r := prometheus.NewRegistry()
	r.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		&statsCollector{
			n: n, metrics: metricsOfStats(), dht: metricsOfDHT(), tls: metricsOfTLS(),
			info:  describe("info", "1, with the version of the program.", "version"),
			drain: describe("draining", "1 while the node is about to stop."),
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
	all := c.metrics
	if s.DHT != nil {
		all = slices.Concat(all, c.dht)
	}
	if s.TLS != nil {
		all = slices.Concat(all, c.tls)
	}
	for _, m := range all {
		out <- prometheus.MustNewConstMetric(m.desc, m.kind, m.of(&s))
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
