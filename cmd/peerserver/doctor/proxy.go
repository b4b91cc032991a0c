package doctor

import "context"

// checkProxy says whether the node knows its clients' addresses, by which its
// quotas count them.
func (s *subject) checkProxy(context.Context) []Finding {
	switch {
	case s.seen == nil:
		return one(bad(SeenNone, "The node does not say how it sees a client."))
	case s.seen.Forwarded && !s.seen.Trusted:
		return one(bad(ProxyUntrusted, "There is a proxy in front that says for whom it speaks, and the node does not believe it."))
	case s.seen.Forwarded:
		return one(ok("The node believes its proxy, and sees a %s address.", s.seen.Address))
	case s.seen.Trusted && !s.hostIsHere():
		return one(bad(ProxySilent, "The request came from a trusted proxy, which does not say for whom it speaks."))
	case !s.near && s.seen.Address != "public":
		return one(bad(ProxySilent, "The node sees a %s address in place of this machine's: something in front of it forwards, and does not say for whom.", s.seen.Address))
	}
	return one(ok("The node sees clients themselves."))
}

// hostIsHere says whether the node was asked without its proxy, from its own
// machine.
func (s *subject) hostIsHere() bool { return s.self != nil && s.near }
