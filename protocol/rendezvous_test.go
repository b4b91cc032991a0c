package protocol

import (
	"encoding/hex"
	"testing"
)

type rendezvousVector struct {
	App string `json:"app"` // hex
	Day uint32 `json:"day"` // since 1 January 1970, UTC
	Key string `json:"key"` // hex
}

func TestVectorsRendezvous(t *testing.T) {
	var cases []rendezvousVector
	seen := map[string]bool{}
	for _, app := range []AppID{MeshApp, App("native", []byte("chess"), nil)} {
		for _, day := range []uint32{0, 1, 255, 256, 20777, 1<<32 - 1} {
			key := app.Rendezvous(day)
			c := rendezvousVector{app.String(), day, hex.EncodeToString(key[:])}
			if cases = append(cases, c); seen[c.Key] {
				t.Errorf("%s is the key of two days or apps", c.Key)
			}
			seen[c.Key] = true
		}
	}
	checkVectors(t, "rendezvous", cases)
}
