package node

import (
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// maxCertFile is far more than a chain takes.
const maxCertFile = 1 << 20

// certFiles are a certificate and its key as the operator, or a program like
// certbot, keeps them. What is in them is compared and not their times: so it does
// not matter how they are replaced, by a symbolic link or in place.
type certFiles struct {
	cert, key string
	certs     *certificates

	// Owned by serveTLS.
	sum [sha256.Size]byte // of what was looked at last
	bad error             // what was wrong with it
}

// open reads the files for the first time: then they have to be good.
func (f *certFiles) open() error {
	f.look()
	return f.bad
}

// look takes what is in the files if it is new. Of two files, one is always
// replaced before the other: what does not fit is looked at again.
func (f *certFiles) look() {
	cert, key, err := f.read()
	sum := sha256.Sum256(append(append(cert, 0), key...))
	if err == nil && sum == f.sum {
		return
	}
	var pair tls.Certificate
	if err == nil {
		f.sum = sum
		if pair, err = tls.X509KeyPair(cert, key); err != nil {
			err = fmt.Errorf("--tls-cert %s and --tls-key %s: %w; the first has to hold the certificate and those of its issuers in PEM, the second its key", f.cert, f.key, err)
		}
	}
	if err != nil {
		f.bad = err
		f.certs.failed(err)
		return
	}
	f.bad = nil
	f.certs.take(0, &pair)
}

func (f *certFiles) read() (cert, key []byte, err error) {
	if cert, err = readCertFile("tls-cert", f.cert); err == nil {
		key, err = readCertFile("tls-key", f.key)
	}
	if err != nil {
		f.sum = [sha256.Size]byte{} // when they are back they are taken, changed or not
	}
	return cert, key, err
}

func readCertFile(flag, path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err == nil && (!info.Mode().IsRegular() || info.Size() > maxCertFile) {
		return nil, fmt.Errorf("--%s %s is not a certificate or key in PEM; name the file that holds it", flag, path)
	}
	var b []byte
	if err == nil {
		b, err = os.ReadFile(path)
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("--%s %s may not be read by this user; let it, as by a group that has the file", flag, path)
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("--%s %s is not there; name the file that holds it", flag, path)
	case err != nil:
		return nil, fmt.Errorf("--%s: %w", flag, err)
	}
	return b, nil
}
