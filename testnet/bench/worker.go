package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/peerservers/peerserver/testnet/bench/gear"
)

// Worker is one process of [Idle]. It reads an order, then a line for each step
// to take, and ends with its input.
func Worker(ctx context.Context, in io.Reader, out io.Writer) error {
	lines := bufio.NewReader(in)
	var o order
	b, err := lines.ReadBytes('\n')
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, &o); err != nil {
		return err
	}
	i := &idlers{order: o, conns: make([]net.Conn, o.To-o.From), names: newNames(o.Seed, 0)}
	defer i.close()
	for _, step := range []func(context.Context) error{func(context.Context) error { return nil }, i.open, i.announce} {
		var d done
		if err := step(ctx); err != nil {
			d.Error = err.Error()
		}
		if err := json.NewEncoder(out).Encode(d); err != nil {
			return err
		}
		if _, err := lines.ReadBytes('\n'); err != nil {
			return nil // which is how it is told to end
		}
	}
	return nil
}

// idlers are the connections of one worker.
type idlers struct {
	order
	names   *names
	conns   []net.Conn
	readers sync.WaitGroup
}

func (i *idlers) open(ctx context.Context) error {
	cfg := Config{URLs: i.URLs, Clients: i.Clients, Swarm: i.Swarm, Layout: All, Offers: DefaultOffers}
	l, err := newLayout(&cfg)
	if err != nil {
		return err
	}
	targets := make([]gear.Target, len(i.URLs))
	for n, u := range i.URLs {
		if targets[n], err = gear.ParseTarget(u); err != nil {
			return err
		}
	}
	return gear.Parallel(ctx, len(i.conns), dialers, func(ctx context.Context, n int) error {
		c, _, err := targets[l.server(i.From+n)].Dial(ctx, i.From+n)
		if err != nil {
			return fmt.Errorf("connection %d: %w", i.From+n, err)
		}
		i.conns[n] = c
		return nil
	})
}

// announce joins every connection to its swarm. From then on something reads
// it: it must answer pings.
func (i *idlers) announce(ctx context.Context) error {
	swarms := max(1, i.Clients/i.Swarm)
	return gear.Parallel(ctx, len(i.conns), dialers, func(_ context.Context, n int) error {
		hash, peer := i.names.infoHash((i.From+n)%swarms), i.names.peerID(i.From+n)
		b := appendAnnounce(make([]byte, gear.Room, 512), appendID(nil, &hash), appendID(nil, &peer), "started", 0)
		if _, err := i.conns[n].Write(gear.Finish(append(b, "]}"...), gear.OpText, uint32(gear.Mix(uint64(n))))); err != nil {
			return err
		}
		f := gear.NewFrames(i.conns[n], 512, nil)
		for {
			opcode, payload, ok, err := f.Next()
			if err != nil {
				return err
			}
			if !ok {
				if err := f.Fill(); err != nil {
					return fmt.Errorf("connection %d got no reply: %w", i.From+n, err)
				}
				continue
			}
			var m message
			if opcode == gear.OpText && (!m.scan(payload) || m.interval == nil) {
				return fmt.Errorf("connection %d got an answer that is no reply: %.100q", i.From+n, payload)
			}
			if opcode == gear.OpText {
				break
			}
		}
		i.readers.Go(func() { hold(i.conns[n], f) })
		return nil
	})
}

// hold answers the pings of a connection until it ends.
func hold(c net.Conn, f *gear.Frames) {
	for {
		opcode, payload, ok, err := f.Next()
		if err == nil && !ok {
			err = f.Fill()
		}
		if err != nil {
			return
		}
		if ok && opcode == gear.OpPing {
			if _, err := c.Write(gear.Finish(append(make([]byte, gear.Room), payload...), gear.OpPong, 1)); err != nil {
				return
			}
		}
	}
}

func (i *idlers) close() {
	for _, c := range i.conns {
		if c != nil {
			c.Close()
		}
	}
	i.readers.Wait()
}
