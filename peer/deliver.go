package peer

// open lists the peer and begins to tell the app of it. Only the member's
// goroutine calls it, once.
func (p *Peer) open(path Path) {
	p.setPath(path)
	p.r.mu.Lock()
	p.r.peers[p], p.m.connected = struct{}{}, true
	p.r.mu.Unlock()
	close(p.opened)
	p.pumps.Go(p.gossip)
	p.r.working.Go(p.deliver)
	p.r.log.Debug("connected", "peer", p.ID().Short(), "path", path.String())
	p.r.announce(p)
}

func (p *Peer) isOpen() bool { return isClosed(p.opened) }

// setPath reports whether that is another one.
func (p *Peer) setPath(path Path) bool { return p.way.Swap(int32(path)) != int32(path) }

// goes says how the peer is reached now, to the app and to the other peers.
func (p *Peer) goes(path Path) {
	if !p.setPath(path) || !p.isOpen() {
		return
	}
	select {
	case p.moved <- struct{}{}:
	default:
	}
	p.r.announce(p)
}

// hand gives something to the app, and waits while it is busy.
func (p *Peer) hand(x incoming) {
	select {
	case p.in <- x:
	case <-p.done:
	}
}

// deliver calls the app's handlers for this peer, one at a time.
func (p *Peer) deliver() {
	defer close(p.over)
	o := &p.r.opts
	told := p.Path()
	if f := o.OnPeer; f != nil {
		f(p)
	}
	for {
		select {
		case x := <-p.in:
			p.give(x)
		case b := <-p.spreads:
			p.give(incoming{data: b})
		case <-p.moved:
			if now := p.Path(); now != told {
				told = now
				if f := o.OnPath; f != nil {
					f(p)
				}
			}
		case <-p.done:
			p.deliverRest()
			if f := o.OnLeave; f != nil {
				f(p)
			}
			return
		}
	}
}

// deliverRest gives the app what has come before the end.
func (p *Peer) deliverRest() {
	<-p.quiet
	for len(p.in) > 0 {
		p.give(<-p.in)
	}
	if p.relay != nil {
		for _, b := range p.relay.ready {
			p.give(incoming{data: b})
		}
	}
	for len(p.spreads) > 0 {
		p.give(incoming{data: <-p.spreads})
	}
}

func (p *Peer) give(x incoming) {
	if x.channel != nil {
		p.r.opts.OnChannel(p, x.channel)
	} else if f := p.r.opts.OnMessage; f != nil {
		f(p, x.data)
	}
}

// end ends everything of the peer and waits for it. The connection that carries
// it ends first. Only the member's goroutine calls it.
func (p *Peer) end() {
	p.pumps.Wait()
	p.lost.Store(!p.goodbye.Load() && p.r.work.Err() == nil)
	close(p.quiet)
	p.calls.end()
	if p.isOpen() {
		<-p.over
	}
}
