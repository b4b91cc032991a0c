// Command torrent is anacrolix/torrent's WebTorrent client, as published, for
// the end-to-end suites of testnet/e2e: it seeds or downloads one file over
// data channels only. It is a module of its own so that the library stays out
// of the main go.mod.
//
//	torrent seed     -tracker ws://... -size 5000000 -seed 1
//	torrent download -tracker ws://... -infohash HEX
//
// It writes one JSON object a line to standard output ("announced",
// "connected", "done") and runs until SIGINT or SIGTERM.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/anacrolix/torrent"
	"github.com/anacrolix/torrent/metainfo"
	"github.com/anacrolix/torrent/storage"
	"github.com/pion/webrtc/v4"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "torrent:", err)
		os.Exit(1)
	}
}

// options are the command line's.
type options struct {
	tracker  string
	size     int
	seed     uint
	infoHash string
}

func run(ctx context.Context, args []string, stdout io.Writer) (err error) {
	if len(args) == 0 {
		return errors.New("say seed or download")
	}
	var opts options
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.StringVar(&opts.tracker, "tracker", "", "WebSocket `URL` of the tracker")
	flags.IntVar(&opts.size, "size", 0, "size of the file to seed, in bytes")
	flags.UintVar(&opts.seed, "seed", 1, "which file of that size")
	flags.StringVar(&opts.infoHash, "infohash", "", "what to download, in `hex`")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "torrent-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	out := &reporter{out: json.NewEncoder(stdout), said: map[string]bool{}}
	client, err := newClient(dir, out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(append(client.Close(), err)...) }()
	switch args[0] {
	case "seed":
		err = seed(ctx, client, dir, opts)
	case "download":
		err = download(ctx, client, opts, out)
	default:
		err = fmt.Errorf("%s: say seed or download", args[0])
	}
	if err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// newClient has every way to a peer switched off but WebRTC, and no ICE server.
func newClient(dir string, out *reporter) (*torrent.Client, error) {
	cfg := torrent.NewDefaultClientConfig()
	cfg.DefaultStorage = storage.NewFileWithCompletion(dir, storage.NewMapPieceCompletion())
	cfg.Seed = true
	cfg.NoDHT = true
	cfg.DisableTCP = true
	cfg.DisableUTP = true
	cfg.DisablePEX = true
	cfg.DisableWebseeds = true
	cfg.NoDefaultPortForwarding = true
	cfg.ICEServerList = []webrtc.ICEServer{}
	cfg.ListenPort = 0
	cfg.Slogger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	cfg.Callbacks.StatusUpdated = append(cfg.Callbacks.StatusUpdated, func(e torrent.StatusUpdatedEvent) {
		switch e.Event {
		case torrent.TrackerAnnounceSuccessful:
			out.once("announced", nil)
		case torrent.PeerConnected:
			out.once("connected", nil)
		}
	})
	client, err := torrent.NewClient(cfg)
	if err != nil {
		return nil, fmt.Errorf("start the client: %w", err)
	}
	return client, nil
}

func seed(ctx context.Context, client *torrent.Client, dir string, opts options) error {
	which := uint32(opts.seed) //nolint:gosec // the suites' seeds are small
	data := content(opts.size, which)
	meta, info, err := describe(data, which)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, info.Name), data, 0o600); err != nil {
		return err
	}
	spec, err := torrent.TorrentSpecFromMetaInfoErr(meta)
	if err != nil {
		return err
	}
	spec.Trackers = [][]string{{opts.tracker}}
	t, _, err := client.AddTorrentSpec(spec)
	if err != nil {
		return err
	}
	if err := t.VerifyDataContext(ctx); err != nil {
		return err
	}
	if t.BytesMissing() != 0 {
		return fmt.Errorf("seed lacks %d of its own bytes", t.BytesMissing())
	}
	return nil
}

func download(ctx context.Context, client *torrent.Client, opts options, out *reporter) error {
	var hash metainfo.Hash
	if err := hash.FromHexString(opts.infoHash); err != nil {
		return fmt.Errorf("infohash %q: %w", opts.infoHash, err)
	}
	t, _, err := client.AddTorrentSpec(&torrent.TorrentSpec{
		AddTorrentOpts: torrent.AddTorrentOpts{InfoHash: hash},
		Trackers:       [][]string{{opts.tracker}},
	})
	if err != nil {
		return err
	}
	select {
	case <-t.GotInfo():
	case <-ctx.Done():
		return nil
	}
	t.DownloadAll()
	select {
	case <-t.Complete().On():
	case <-ctx.Done():
		return nil
	}
	reader := t.NewReader()
	defer reader.Close()
	digest := sha256.New()
	n, err := io.Copy(digest, reader)
	if err != nil {
		return fmt.Errorf("read what was downloaded: %w", err)
	}
	out.once("done", map[string]any{"bytes": n, "sha256": hex.EncodeToString(digest.Sum(nil))})
	return nil
}

// reporter writes each event once, with the time.
type reporter struct {
	mu   sync.Mutex
	out  *json.Encoder
	said map[string]bool
}

func (r *reporter) once(event string, fields map[string]any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.said[event] {
		return
	}
	r.said[event] = true
	line := map[string]any{"event": event, "at": time.Now().UnixMilli()}
	maps.Copy(line, fields)
	if err := r.out.Encode(line); err != nil {
		fmt.Fprintln(os.Stderr, "torrent:", err)
	}
}
