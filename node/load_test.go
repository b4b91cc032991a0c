package node

import "testing"

func TestLoadClass(t *testing.T) {
	for _, c := range []struct {
		load   float64
		before int
		want   int
	}{
		{0, 0, 0},
		{0.24, 0, 0},
		{0.25, 0, 1},
		{0.22, 1, 1},
		{0.19, 1, 0},
		{0.5, 1, 2},
		{0.46, 2, 2},
		{0.44, 2, 1},
		{0.9, 0, 3},
		{0.86, 3, 3},
		{0.84, 3, 2},
		{1, 3, 3},
		{0, 3, 0},
	} {
		if got := loadClass(c.load, c.before); got != c.want {
			t.Errorf("a load of %v is of class %d, not %d, after %d", c.load, got, c.want, c.before)
		}
	}
}
