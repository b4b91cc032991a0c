package gear

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Parallel calls f for 0 to n-1, so many at a time, until one fails. The error is
// that of the first, which may say more of a context that ends than its cause.
func Parallel(ctx context.Context, n, atOnce int, f func(context.Context, int) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var failed sync.Once
	var failure error
	var workers sync.WaitGroup
	var next atomic.Int64
	for range min(atOnce, n) {
		workers.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := f(ctx, i); err != nil {
					failed.Do(func() { failure = err })
					cancel()
				}
			}
		})
	}
	workers.Wait()
	if failure != nil {
		return failure
	}
	return context.Cause(ctx)
}

// Pause waits, and says whether it was for that long: the context may end it.
func Pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
