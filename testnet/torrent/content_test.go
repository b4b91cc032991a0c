package main

import (
	"crypto/sha256"
	"encoding/hex"
	"testing"
)

// The numbers are those of testnet/e2e/content.test.mjs: both sides must make the same file of a size and a seed.
func TestContentIsThatOfThePages(t *testing.T) {
	data := content(200_000, 7)
	digest := sha256.Sum256(data)
	if got, want := hex.EncodeToString(digest[:]), "70283ba318ae38d45c76384468cc3d9b394acd7275992a588eb2df7dd8e82a48"; got != want {
		t.Errorf("sha256 %s, want %s", got, want)
	}
	meta, _, err := describe(data, 7)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := meta.HashInfoBytes().HexString(), "f8f9cfbdc46c4ed4d196df2d10add0b31a801311"; got != want {
		t.Errorf("info hash %s, want %s", got, want)
	}
}
