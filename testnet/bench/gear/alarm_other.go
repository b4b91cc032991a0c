//go:build !linux

package gear

import "time"

// Alarm sleeps.
type Alarm struct{}

// NewAlarm makes one.
func NewAlarm() Alarm { return Alarm{} }

// Sleep sleeps.
func (Alarm) Sleep(d time.Duration) { time.Sleep(d) }
