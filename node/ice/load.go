package ice

import "time"

// Load is how much of what the server gives in all is given away, 0 to 1: of the
// allocations, or of the day's bytes.
func (s *Server) Load() float64 {
	allocations, _ := s.accounts.live()
	load := float64(allocations) / float64(s.cfg.Quota.Allocations)
	if day := s.cfg.Quota.NodeDay; day > 0 {
		load = max(load, float64(s.accounts.all.today(time.Now()))/float64(day))
	}
	return min(load, 1)
}
