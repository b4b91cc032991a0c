package doctor

import (
	"context"
	"strconv"
	"time"

	"github.com/peerservers/peerserver/node"
)

// checkReach says what the node has found out about its own ports: other nodes
// have tried them, from where they are.
func (s *subject) checkReach(context.Context) []Finding {
	if s.stats == nil || s.stats.Reach == nil {
		return one(bad(ReachUnknown, "The node does not say whether its ports are reached from outside."))
	}
	r := s.stats.Reach
	found := s.checkTried(r)
	switch r.PortMap {
	case "":
	case "none":
		found = append(found, bad(PortmapFailed, "The node asks for its ports to be mapped, and no router does it."))
	default:
		found = append(found, ok("A router maps its ports by %s.", r.PortMap))
	}
	return found
}

// checkTried is what other nodes have found.
func (s *subject) checkTried(r *node.Reach) (found []Finding) {
	since := ""
	if r.Since > 0 {
		since = ", for " + length(time.Since(time.Unix(r.Since, 0)))
	}
	switch r.TCP {
	case "reached":
		found = append(found, ok("Other nodes reach its port over TCP%s.", since))
	case "failed":
		found = append(found, bad(ReachNone, "Other nodes do not reach its port over TCP%s.", since))
	}
	switch r.STUN {
	case "reached":
		found = append(found, ok("Other nodes reach its STUN port over UDP%s.", since))
	case "failed":
		found = append(found, bad(ReachPort, "Other nodes do not reach its STUN port%s over UDP%s.", s.stunPort(), since))
	}
	if len(found) == 0 {
		return one(bad(ReachUnknown, "The node does not know yet whether its ports are reached from outside."))
	}
	return found
}

func (s *subject) stunPort() string {
	if s.about == nil || s.about.STUNPort == 0 {
		return ""
	}
	return " " + strconv.Itoa(int(s.about.STUNPort))
}
