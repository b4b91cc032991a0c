package doctor

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/peerservers/peerserver/dhtstore"
	"github.com/peerservers/peerserver/protocol"
)

const (
	fewNodes    = 20               // in the routing table of a node that has run for a while
	settled     = 3 * time.Minute  // after the start: until then the table fills and the record is new
	findWithin  = 15 * time.Second // for the record in the DHT
	aloneWithin = 6 * time.Second  // for the first answer of the DHT
	pingWithin  = 4 * time.Second  // for an answer of the node's own DHT port
)

// checkDHT looks at the node's part in the DHT: what it says of it, whether its
// port answers, and whether its record is found.
func (s *subject) checkDHT(ctx context.Context) []Finding {
	if s.stats != nil && s.stats.DHT == nil {
		return one(bad(DHTOff, "The node is without the DHT: it knows the nodes that it is told of."))
	}
	found := s.checkTable()
	if s.record == nil {
		return found // nothing to be found by
	}
	found = append(found, s.checkPort(ctx))
	return append(found, s.checkItem(ctx))
}

// checkTable looks at what the node says.
func (s *subject) checkTable() []Finding {
	if s.stats == nil {
		return nil
	}
	d, up := s.stats.DHT, time.Duration(s.stats.Uptime)*time.Second
	var found []Finding
	switch {
	case d.Nodes == 0:
		found = one(bad(DHTAlone, "The node knows no node of the DHT that answers."))
	case d.Nodes < fewNodes && !s.near && up > settled:
		found = one(bad(DHTFew, "The node knows %d nodes of the DHT only.", d.Nodes))
	default:
		found = one(ok("The node knows %d nodes of the DHT.", d.Nodes))
	}
	if s.record != nil && !d.Published {
		found = append(found, bad(DHTUnpublished, "The node has not put its record into the DHT; it runs for %s.", length(up)))
	}
	return found
}

// checkPort asks the node's own DHT port, at each number that it may have.
func (s *subject) checkPort(ctx context.Context) Finding {
	for _, port := range s.dhtPorts() {
		if pinged(ctx, net.JoinHostPort(s.base.Hostname(), port)) {
			return ok("UDP port %s answers as a node of the DHT.", port)
		}
	}
	if s.isBlocked() {
		return bad(UDPUnknown, "UDP port %s does not answer, as nothing else does over UDP.", s.dhtPorts()[0])
	}
	if s.stats == nil {
		return bad(NotTried, "UDP port %s does not answer as a node of the DHT, and a private node does not say whether it is one.", s.dhtPorts()[0])
	}
	return bad(DHTPort, "UDP port %s does not answer as a node of the DHT.", s.dhtPorts()[0])
}

// dhtPorts are the node's port, and the default one, where a proxy has another
// one in front.
func (s *subject) dhtPorts() []string {
	if s.self != nil {
		if at, err := addrPort(s.self.DHT); err == nil {
			return []string{strconv.Itoa(int(at.Port()))}
		}
	}
	_, port, _ := net.SplitHostPort(s.address())
	usual := strconv.Itoa(protocol.DefaultPort)
	if port == "443" || port == "80" {
		return []string{usual, port}
	}
	return slices.Compact([]string{port, usual})
}

// pinged sends BEP 5's ping until it is answered. It is twenty lines, and no
// DHT node has to be started for it.
func pinged(ctx context.Context, at string) bool {
	ctx, cancel := context.WithTimeout(ctx, pingWithin)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "udp", at)
	if err != nil {
		return false
	}
	defer c.Close()
	id, tag := make([]byte, 20), make([]byte, 4)
	rand.Read(id)
	rand.Read(tag)
	ping := slices.Concat([]byte("d1:ad2:id20:"), id, []byte("e1:q4:ping1:t4:"), tag, []byte("1:y1:qe"))
	buf := make([]byte, 1500)
	for ctx.Err() == nil {
		if _, err := c.Write(ping); err != nil && ctx.Err() != nil {
			return false
		}
		_ = c.SetReadDeadline(time.Now().Add(time.Second)) // a UDP socket has deadlines
		n, err := c.Read(buf)
		if err != nil {
			if !isTimeout(err) { // refused: somebody may be starting there
				time.Sleep(200 * time.Millisecond)
			}
			continue
		}
		if bytes.Contains(buf[:n], append([]byte("1:t4:"), tag...)) && bytes.Contains(buf[:n], []byte("1:y1:r")) {
			return true
		}
	}
	return false
}

// checkItem looks for the node's record in the DHT, as another node would.
func (s *subject) checkItem(ctx context.Context) Finding {
	ctx, cancel := context.WithTimeout(ctx, findWithin)
	defer cancel()
	there, err := s.resolve(ctx)
	switch {
	case errors.Is(err, errNoDHT):
		return bad(DHTHere, "No node of the DHT answers this machine.")
	case err != nil && s.stats == nil:
		return bad(NotTried, "The node's record is not found in the DHT, and a private node does not say whether it is there.")
	case err != nil:
		return bad(DHTMissing, "The node's record is not found in the DHT: other nodes do not find it by its id.")
	}
	age := time.UnixMilli(s.record.Seq).Sub(issued(there))
	mine, err := s.record.Verify(s.about.Node, time.UnixMilli(s.record.Seq))
	switch {
	case err != nil || age == 0:
		return ok("The node's record is found in the DHT, the same as the node shows.")
	case !slices.Equal(mine.URLs, there.URLs):
		return bad(DHTOld, "The node's record in the DHT is another one, %s older, with other URLs.", length(age))
	}
	if age < time.Minute { // it is new each time that something in it changes
		return ok("The node's record is found in the DHT, with the URLs that the node shows.")
	}
	return ok("The node's record is found in the DHT, with the URLs that the node shows, and %s older.", length(age))
}

var errNoDHT = errors.New("no node of the DHT answers")

// resolve finds the record by the node's id. It is not found on a machine that
// the DHT does not answer either: so that is asked too.
func (s *subject) resolve(ctx context.Context) (*protocol.Record, error) {
	at := ":0"
	if s.near {
		at = "127.0.0.1:0"
		if s.base.Hostname() != "localhost" && !net.ParseIP(s.base.Hostname()).IsLoopback() {
			at = ":0"
		}
	}
	conn, err := new(net.ListenConfig).ListenPacket(ctx, "udp", at)
	if err != nil {
		return nil, err
	}
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		conn.Close()
		return nil, err
	}
	cfg := dhtstore.Config{Conn: conn, Key: key, NoAnnounce: true, Private: s.near}
	if len(s.opts.Bootstrap) > 0 {
		cfg.Bootstrap = s.opts.Bootstrap
	}
	store, err := dhtstore.Open(cfg)
	if err != nil {
		return nil, err
	}
	serving, end := context.WithCancel(context.WithoutCancel(ctx))
	served := make(chan error, 1)
	go func() { served <- store.Serve(serving) }()
	asking, cancel := context.WithCancel(ctx)
	defer cancel()
	alone := time.AfterFunc(aloneWithin, func() {
		if known(store) == 0 {
			cancel()
		}
	})
	defer alone.Stop()
	r, err := store.Resolve(asking, s.about.Node)
	if err != nil && known(store) == 0 {
		err = errNoDHT
	}
	end()
	return r, errors.Join(err, <-served)
}

// known is how many nodes of the DHT have answered.
func known(store *dhtstore.Store) int {
	st := store.Stats()
	return st.Nodes4 + st.Nodes6
}
