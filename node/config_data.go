package node

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// Files of a data folder.
const (
	keyFile  = "node.key"
	lockFile = "lock"
)

// maxKeyFile is far more than a key takes.
const maxKeyFile = 4 << 10

var errLocked = errors.New("locked")

// DefaultData is the data folder of this user: peerserver in $XDG_DATA_HOME
// where that is set, else ~/.peerserver.
func DefaultData() (string, error) {
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "peerserver"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", errors.New("this user has no home folder; name a data folder with --data")
	}
	return filepath.Join(home, ".peerserver"), nil
}

// dataFolder is what a node keeps. It is locked while the node has it: two
// nodes with one key would take each other's links away.
type dataFolder struct {
	path string
	lock *os.File
}

func openData(path string) (*dataFolder, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, dataError(path, err)
	}
	f, err := os.OpenFile(filepath.Join(path, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, dataError(path, err)
	}
	if err := lock(f); err != nil {
		defer f.Close()
		if errors.Is(err, errLocked) {
			return nil, fmt.Errorf("data folder %s: another node has it%s; stop that one, or name another folder with --data", path, holder(f))
		}
		return nil, dataError(path, err)
	}
	// For whoever finds it locked. A node that cannot write this can write
	// nothing else either.
	if err := errors.Join(f.Truncate(0), writeAt(f, strconv.Itoa(os.Getpid()))); err != nil {
		f.Close()
		return nil, dataError(path, err)
	}
	return &dataFolder{path, f}, nil
}

func writeAt(f *os.File, s string) error {
	_, err := f.WriteAt([]byte(s), 0)
	return err
}

// holder reads which process has the folder, if it says.
func holder(f *os.File) string {
	b := make([]byte, 20)
	n, _ := f.ReadAt(b, 0)
	if pid, err := strconv.Atoi(strings.TrimSpace(string(b[:n]))); err == nil {
		return fmt.Sprintf(" (process %d)", pid)
	}
	return ""
}

// Close lets another node have the folder.
func (d *dataFolder) Close() error { return d.lock.Close() }

// key reads the node's key, or makes it: once, and whole or not at all.
func (d *dataFolder) key() (ed25519.PrivateKey, error) {
	path := filepath.Join(d.path, keyFile)
	key, err := readKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	_, key, _ = ed25519.GenerateKey(nil) // never fails
	if err := writeKey(path, key); err != nil {
		return nil, dataError(d.path, err)
	}
	return key, nil
}

func readKey(path string) (ed25519.PrivateKey, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular() || info.Size() > maxKeyFile:
		return nil, fmt.Errorf("%s is not a key file; put back a copy of the right one, or move it away for the node to make a new key", path)
	case runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("%s can be read by other users, and it is the node's identity; run: chmod 600 %s", path, path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w; give this user the file, or name another data folder with --data", err)
	}
	if block, _ := pem.Decode(text); block != nil {
		if parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			if key, ok := parsed.(ed25519.PrivateKey); ok {
				return key, nil
			}
		}
	}
	return nil, fmt.Errorf("%s holds no ed25519 key in PKCS #8 PEM; put back a copy of the right one, or move it away for the node to make a new key", path)
}

func writeKey(path string, key ed25519.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	part := path + ".part" // ours alone: the folder is locked
	if err := os.Remove(part); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = errors.Join(pem.Encode(f, &pem.Block{Type: "PRIVATE KEY", Bytes: der}), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(part, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(part))
	}
	return nil
}

func dataError(path string, err error) error {
	if at, ok := errors.AsType[*fs.PathError](err); ok {
		err = at.Err
	}
	return fmt.Errorf("data folder %s: %w; give this user a folder to write to, or name another with --data (with --data= the node keeps nothing, its key included)", path, err)
}
