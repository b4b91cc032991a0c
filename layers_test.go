package peerserver

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

const module = "github.com/peerservers/peerserver"

// layer is one row of the layout. An import that no row allows is an error, so
// a new arrow is an edit here.
type layer struct {
	dir    string   // "x/*" is each folder directly under x, "x/..." x and all below
	ours   []string // folders of ours it may import, in the same patterns
	theirs []string // modules of others it may import; nil: any that no wall forbids
	tests  []string // what its _test.go files may import of ours besides
}

var (
	nothing  = []string{}
	allOfUs  = []string{"protocol", "dhtstore", "relay", "node/...", "peer/...", "testnet/..."}
	overTLS  = []string{"testnet/certs"}                                // tests that need certificates
	scenes   = []string{"testnet", "testnet/certs"}                     // or a whole net of nodes
	onLAN    = []string{"testnet", "testnet/certs", "peer/lan/lantest"} // or a LAN as well
	protobuf = "google.golang.org/protobuf"
)

// The first row that fits a folder is its row.
var layers = []layer{
	{dir: ".", ours: nothing, theirs: nothing},
	{dir: "protocol", ours: nothing, theirs: []string{protobuf}},
	{dir: "dhtstore", ours: []string{"protocol"}},
	{dir: "relay", ours: []string{"protocol"}, theirs: []string{"github.com/gorilla/websocket", "github.com/flynn/noise", protobuf}},
	{dir: "node", ours: []string{"protocol", "dhtstore", "relay", "peer/browser", "peer/lan", "node/..."}, tests: onLAN},
	{dir: "node/door", ours: []string{"protocol", "relay"}, tests: overTLS},
	{dir: "node/door/scan", ours: nothing, theirs: nothing},
	{dir: "node/door/topics", ours: []string{"protocol", "relay", "node/door", "node/door/scan"}},
	{dir: "node/door/wsrelay", ours: []string{"protocol", "relay", "node/door", "node/door/scan", "node/door/topics"}, tests: scenes},
	{dir: "node/door/ywebrtc", ours: []string{"protocol", "relay", "node/door", "node/door/scan", "node/door/topics"}, tests: scenes},
	{dir: "node/door/*", ours: []string{"protocol", "relay", "node/door", "node/door/scan"}, tests: scenes},
	{dir: "node/ice", ours: []string{"protocol"}, tests: overTLS},
	{dir: "node/portmap", ours: nothing, theirs: []string{"github.com/huin/goupnp", "github.com/jackpal/go-nat-pmp", "github.com/libp2p/go-netroute"}},
	{dir: "peer", ours: []string{"protocol", "peer/lan"}, tests: onLAN},
	{dir: "peer/lan", ours: []string{"protocol"}, tests: []string{"peer/lan/lantest"}},
	{dir: "peer/lan/lantest", ours: []string{"peer/lan"}},
	{dir: "peer/browser", ours: nothing},
	{dir: "testnet/certs", ours: nothing, theirs: nothing},
	{dir: "testnet/natlab", ours: allOfUs, tests: []string{"cmd/peerserver/doctor"}},
	{dir: "testnet/portmap", ours: allOfUs, tests: []string{"cmd/peerserver/doctor"}},
	{dir: "testnet/proxies", ours: allOfUs, tests: []string{"cmd/peerserver/doctor"}},
	{dir: "testnet/...", ours: allOfUs},
	{dir: "cmd/peerserver", ours: append([]string{"cmd/peerserver/doctor"}, allOfUs...)},
	{dir: "cmd/peerserver/doctor", ours: []string{"protocol", "dhtstore", "relay", "node/...", "peer"}, tests: scenes},
	{dir: "scripts/*", ours: nothing, theirs: nothing},
}

// wall keeps a library behind the folders that are meant to hide it.
type wall struct {
	module string
	dirs   []string
	why    string
}

var walls = []wall{
	{"github.com/anacrolix", []string{"dhtstore", "testnet/..."}, "the DHT library lives behind dhtstore"},
	{"github.com/pion/webrtc", []string{"peer", "testnet/...", "cmd/peerserver/..."}, "WebRTC lives in peer; a node only carries its messages"},
	{"github.com/pion", []string{"node/ice", "peer", "testnet/...", "cmd/peerserver/..."}, "STUN and TURN live in node/ice"},
}

func TestLayers(t *testing.T) {
	files, wrong, err := violations(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range wrong {
		t.Error(w)
	}
	if files < 10 {
		t.Errorf("looked at %d files only; the walk does not see the repository", files)
	}
}

// TestLayersCanFail shows that each kind of bad import is seen, and that its
// allowed neighbour is not.
func TestLayersCanFail(t *testing.T) {
	for _, c := range []struct {
		file, imports string
		wrong         int
	}{
		{"protocol/a.go", module + "/relay", 1},
		{"protocol/a.go", "github.com/gorilla/websocket", 1},
		{"protocol/a.go", protobuf + "/proto", 0},
		{"protocol/a.go", protobuf + "extra", 1},
		{"protocol/a_test.go", module + "/testnet", 1},
		{"protocol/a_test.go", module + "/protocol", 0},
		{"relay/a.go", module + "/dhtstore", 1},
		{"relay/a.go", "github.com/flynn/noise", 0},
		{"relay/a.go", "golang.org/x/crypto/argon2", 1},
		{"dhtstore/a.go", "github.com/anacrolix/dht/v2/krpc", 0},
		{"node/a.go", "github.com/anacrolix/dht/v2", 1},
		{"node/a.go", module + "/node/door/tracker", 0},
		{"node/a.go", module + "/testnet", 1},
		{"node/a_test.go", module + "/testnet", 0},
		{"node/a.go", module + "/peer", 1},
		{"node/door/tracker/a.go", module + "/node/door", 0},
		{"node/door/tracker/a.go", module + "/node/door/peerjs", 1},
		{"node/door/tracker/a.go", module + "/node", 1},
		{"node/page/a.go", "fmt", 1}, // a folder without a row
		{"node/ice/a.go", "github.com/pion/turn/v4", 0},
		{"node/ice/a.go", "github.com/pion/webrtc/v4", 1},
		{"peer/a.go", "github.com/pion/webrtc/v4", 0},
		{"testnet/faults/a.go", module + "/node", 0},
		{"testnet/a.go", module + "/cmd/peerserver", 1},
		{"cmd/peerserver/main.go", module + "/testnet", 0},
		{"a.go", module + "/protocol", 1},
		{"scripts/check/a.go", "golang.org/x/mod/modfile", 1},
		{"node_modules/x/a.go", "no/such", 0},
		{"relay/testdata/a.go", module + "/node", 0},
	} {
		repo := fstest.MapFS{c.file: {Data: []byte("package p\n\nimport _ " + strconv.Quote(c.imports) + "\n")}}
		if _, wrong, err := violations(repo); err != nil || len(wrong) != c.wrong {
			t.Errorf("%s imports %s: got %q, %v, want %d violations", c.file, c.imports, wrong, err, c.wrong)
		}
	}
}

// violations parses every Go file itself: a test that asked `go list` would
// stay cached, and pass, after a bad import came in.
func violations(repo fs.FS) (files int, wrong []string, err error) {
	err = fs.WalkDir(repo, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if base := d.Name(); d.IsDir() {
			if name != "." && (strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") || base == "node_modules" || base == "testdata") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		files++
		src, err := fs.ReadFile(repo, name)
		if err != nil {
			return err
		}
		found, err := check(name, src)
		wrong = append(wrong, found...)
		return err
	})
	return files, wrong, err
}

func check(name string, src []byte) (wrong []string, err error) {
	file, err := parser.ParseFile(token.NewFileSet(), name, src, parser.ImportsOnly)
	if err != nil {
		return nil, err
	}
	dir := path.Dir(name)
	row := slices.IndexFunc(layers, func(l layer) bool { return fits(l.dir, dir) })
	if row < 0 {
		return []string{name + ": folder " + dir + " has no row in the table of layers_test.go"}, nil
	}
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, err
		}
		if why := forbidden(layers[row], dir, imported, strings.HasSuffix(name, "_test.go")); why != "" {
			wrong = append(wrong, name+": may not import "+imported+": "+why)
		}
	}
	return wrong, nil
}

// forbidden says why a folder may not import something, or nothing if it may.
func forbidden(l layer, dir, imported string, test bool) string {
	if imported == module || strings.HasPrefix(imported, module+"/") {
		folder := strings.TrimPrefix(strings.TrimPrefix(imported, module), "/")
		allowed := func(pattern string) bool { return fits(pattern, folder) }
		if folder == dir || slices.ContainsFunc(l.ours, allowed) || test && slices.ContainsFunc(l.tests, allowed) {
			return ""
		}
		return "no such arrow in layers_test.go"
	}
	if first, _, _ := strings.Cut(imported, "/"); !strings.Contains(first, ".") {
		return "" // standard library
	}
	for _, w := range walls {
		if within(w.module, imported) && !slices.ContainsFunc(w.dirs, func(d string) bool { return fits(d, dir) }) {
			return w.why
		}
	}
	if l.theirs != nil && !slices.ContainsFunc(l.theirs, func(m string) bool { return within(m, imported) }) {
		return "not among the modules of others that this folder may use"
	}
	return ""
}

func within(module, imported string) bool {
	return imported == module || strings.HasPrefix(imported, module+"/")
}

func fits(pattern, dir string) bool {
	if root, ok := strings.CutSuffix(pattern, "/..."); ok {
		return within(root, dir)
	}
	if root, ok := strings.CutSuffix(pattern, "/*"); ok {
		return path.Dir(dir) == root
	}
	return pattern == dir
}
