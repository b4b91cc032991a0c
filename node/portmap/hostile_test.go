package portmap

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"sync/atomic"
	"testing"
	"time"
)

var testPort = Port{TCP: true, Number: 8787}

// pcpAnswer is a good one.
func pcpAnswer() (b []byte, nonce [12]byte) {
	b = make([]byte, pcpSize)
	b[0], b[1], b[6], b[7] = pcpVersion, pcpMap|0x80, 2, 88
	nonce = [12]byte{1, 2, 3}
	copy(b[pcpHeader:], nonce[:])
	b[36] = 6
	copy(b[40:], []byte{8787 >> 8, 8787 & 0xff, 0x9c, 0x41})
	a := netip.MustParseAddr("::ffff:8.1.1.1").As16()
	copy(b[44:], a[:])
	return b, nonce
}

func TestParsePCP(t *testing.T) {
	good, nonce := pcpAnswer()
	r, err := parsePCP(good, nonce, testPort)
	if err != nil || r.external != 40001 || r.life != 600*time.Second || r.address.String() != "8.1.1.1" {
		t.Errorf("%+v, %v", r, err)
	}
	for i, name := range map[int]string{0: "version", 1: "opcode", 3: "result", pcpHeader: "nonce", 36: "protocol", 41: "port"} {
		b := bytes.Clone(good)
		b[i] ^= 0x41
		if r, err := parsePCP(b, nonce, testPort); err == nil {
			t.Errorf("another %s is taken: %+v", name, r)
		}
	}
	if _, err := parsePCP(good[:pcpSize-1], nonce, testPort); err == nil {
		t.Error("a short answer is taken")
	}
}

func FuzzParsePCP(f *testing.F) {
	good, nonce := pcpAnswer()
	f.Add(good)
	f.Add([]byte{0, 0x80, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := parsePCP(b, nonce, testPort); err == nil && (len(b) < pcpSize || !bytes.Equal(b[pcpHeader:36], nonce[:])) {
			t.Fatalf("%x is taken", b)
		}
	})
}

func TestLocation(t *testing.T) {
	router := netip.MustParseAddr("192.168.1.1")
	for at, good := range map[string]bool{
		"http://192.168.1.1:5000/rootDesc.xml": true,
		"http://192.168.1.9:5000/rootDesc.xml": false,
		"http://127.0.0.1/":                    false,
		"http://router.example/":               false,
		"https://192.168.1.1/":                 false,
		"file:///etc/passwd":                   false,
		"":                                     false,
	} {
		answer := fmt.Sprintf("HTTP/1.1 200 OK\r\nLOCATION: %s\r\n\r\n", at)
		if u := location([]byte(answer), router); (u != nil) != good {
			t.Errorf("%q: %v", at, u)
		}
	}
}

func FuzzLocation(f *testing.F) {
	router := netip.MustParseAddr("192.168.1.1")
	f.Add([]byte("HTTP/1.1 200 OK\r\nLOCATION: http://192.168.1.1:5000/rootDesc.xml\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if u := location(b, router); u != nil && u.Hostname() != router.String() {
			t.Fatalf("%v", u)
		}
	})
}

// TestRouterWeb: a router is not followed to other machines, and not read for
// ever.
func TestRouterWeb(t *testing.T) {
	var asked, sent atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer other.Close()
	router := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/away" {
			http.Redirect(w, q, other.URL, http.StatusFound)
			return
		}
		_, _ = w.Write([]byte(`<root xmlns="urn:schemas-upnp-org:device-1-0">`))
		for i := 0; i < 64<<20 && q.Context().Err() == nil; i += 64 << 10 {
			n, err := w.Write(bytes.Repeat([]byte("<a></a>"), 64<<10/7))
			if sent.Add(int64(n)); err != nil {
				return
			}
		}
	}))
	defer router.Close()
	web := routerWeb(Gateway{Router: netip.MustParseAddr("127.0.0.1"), Local: netip.MustParseAddr("127.0.0.1")})
	for _, path := range []string{"/away", "/long"} {
		u, err := url.Parse(router.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		if root, err := describe(context.Background(), web, u); err == nil {
			t.Errorf("%s: %+v", path, root)
		}
	}
	elsewhere := routerWeb(Gateway{Router: netip.MustParseAddr("127.0.0.2")})
	u, err := url.Parse(router.URL)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := describe(context.Background(), elsewhere, u); err == nil {
		t.Error("another machine's description is read")
	}
	if asked.Load() != 0 {
		t.Errorf("the other machine was asked %d times", asked.Load())
	}
	if sent.Load() > 12<<20 { // what the buffers of the system take besides
		t.Errorf("%d bytes were read", sent.Load())
	}
}
