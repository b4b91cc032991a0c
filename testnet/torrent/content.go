package main

import (
	"crypto/sha1" //nolint:gosec // BitTorrent v1 names pieces by SHA-1
	"fmt"

	"github.com/anacrolix/torrent/bencode"
	"github.com/anacrolix/torrent/metainfo"
)

// pieceLength is that of testnet/e2e/content.mjs.
const pieceLength = 65_536

// content is size bytes that depend on seed alone: the same generator
// (xorshift32) as testnet/e2e/content.mjs, so that a client in a page and this
// one know the same file by its size and seed.
func content(size int, seed uint32) []byte {
	b := make([]byte, size)
	x := max(seed, 1)
	for i := range b {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b[i] = byte(x)
	}
	return b
}

// describe returns the torrent of one such file, under the name that
// testnet/e2e/content.mjs gives it.
func describe(data []byte, seed uint32) (*metainfo.MetaInfo, metainfo.Info, error) {
	info := metainfo.Info{
		Name:        fmt.Sprintf("content-%d-%d.bin", len(data), seed),
		Length:      int64(len(data)),
		PieceLength: pieceLength,
	}
	for at := 0; at < len(data); at += pieceLength {
		hash := sha1.Sum(data[at:min(at+pieceLength, len(data))]) //nolint:gosec // as above
		info.Pieces = append(info.Pieces, hash[:]...)
	}
	encoded, err := bencode.Marshal(info)
	if err != nil {
		return nil, info, fmt.Errorf("encode info: %w", err)
	}
	return &metainfo.MetaInfo{InfoBytes: encoded}, info, nil
}
