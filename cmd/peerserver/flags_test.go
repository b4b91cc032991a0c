package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/peerservers/peerserver/node"
)

// settings are what a command could have.
type settings struct {
	name  string
	delay time.Duration
	on    bool
	list  stringList
}

// parse reads settings from a command line, an environment and a file.
func parse(t *testing.T, file string, environ map[string]string, args ...string) (settings, error) {
	t.Helper()
	var s settings
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	fs.StringVar(&s.name, "the-name", "default", "a name")
	fs.DurationVar(&s.delay, "delay", time.Second, "a time")
	fs.BoolVar(&s.on, "on", false, "a switch")
	fs.Var(&s.list, "item", "an item")
	if file != "" {
		path := filepath.Join(t.TempDir(), "conf")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append([]string{"--config", path}, args...)
	}
	err := parseFlags(fs, args, false, func(name string) (string, bool) {
		v, ok := environ[name]
		return v, ok
	})
	return s, err
}

// The command line wins over the environment, that over the file, that over
// the default: for each setting by itself.
func TestPrecedence(t *testing.T) {
	const file = "\ufeff# a comment\n\nthe-name = of the file # and all of it\n delay=5s \non = true\nitem = a, b\nitem = c\n"
	env := map[string]string{"PEERSERVER_THE_NAME": "of the environment", "PEERSERVER_DELAY": "4s", "PEERSERVER_ITEM": "d,e", "PEERSERVER_OTHER": "x"}
	line := []string{"--the-name", "of the line", "--item", "f,g", "--item", "h"}
	same := func(s settings, name string, delay time.Duration, on bool, list ...string) bool {
		return s.name == name && s.delay == delay && s.on == on && slices.Equal(s.list, list)
	}
	for _, c := range []struct {
		what string
		file string
		env  map[string]string
		args []string
		ok   func(settings) bool
	}{
		{"nothing", "", nil, nil, func(s settings) bool { return same(s, "default", time.Second, false) }},
		{"file", file, nil, nil, func(s settings) bool {
			return same(s, "of the file # and all of it", 5*time.Second, true, "a", "b", "c")
		}},
		{"environment", "", env, nil, func(s settings) bool { return same(s, "of the environment", 4*time.Second, false, "d", "e") }},
		{"both", file, env, nil, func(s settings) bool { return same(s, "of the environment", 4*time.Second, true, "d", "e") }},
		{"all", file, env, line, func(s settings) bool { return same(s, "of the line", 4*time.Second, true, "f,g", "h") }},
		{"an empty value", file, map[string]string{"PEERSERVER_THE_NAME": ""}, nil, func(s settings) bool { return same(s, "", 5*time.Second, true, "a", "b", "c") }},
		{"off again", file, nil, []string{"--on=false"}, func(s settings) bool {
			return same(s, "of the file # and all of it", 5*time.Second, false, "a", "b", "c")
		}},
		{"quotes", "the-name = \" x \"\n", nil, nil, func(s settings) bool { return same(s, " x ", time.Second, false) }},
	} {
		if s, err := parse(t, c.file, c.env, c.args...); err != nil || !c.ok(s) {
			t.Errorf("%s: %+v, %v", c.what, s, err)
		}
	}
}

// The environment can name the file.
func TestConfigFromEnvironment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "conf")
	if err := os.WriteFile(path, []byte("the-name = x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := parse(t, "", map[string]string{"PEERSERVER_CONFIG": path}); err != nil || s.name != "x" {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestBadSettings(t *testing.T) {
	for file, says := range map[string][]string{
		"thename = x":                {":1: ", `no setting "thename"`, `did you mean "the-name"?`, "peerserver test --help"},
		"\n# x\nzzzzzzzz = 1":        {":3: ", `no setting "zzzzzzzz";`},
		"the-name":                   {":1: ", "name = value"},
		"delay = soon":               {":1: delay", `"soon"`},
		"the-name = a\nthe-name = b": {":2: ", "already set in line 1"},
		"config = other":             {":1: ", "--config"},
		"on = perhaps":               {":1: on", `"perhaps"`},
		strings.Repeat("x", 1<<17):   {"too long"},
		"--the-name = x":             {`did you mean "the-name"?`},
	} {
		_, err := parse(t, file, nil)
		for _, s := range says {
			if err == nil || !strings.Contains(err.Error(), s) {
				t.Errorf("%.30q: %v, want %q", file, err, s)
			}
		}
	}
	if _, err := parse(t, "", map[string]string{"PEERSERVER_DELAY": "soon"}); err == nil || !strings.Contains(err.Error(), "PEERSERVER_DELAY") {
		t.Errorf("a bad value in the environment: %v", err)
	}
	// A bad value that is not used is no error, a bad name is.
	if _, err := parse(t, "delay = soon", nil, "--delay", "1s"); err != nil {
		t.Errorf("a value that is not used: %v", err)
	}
}

func TestMisspeltEnvironment(t *testing.T) {
	for env, near := range map[string]string{
		"PEERSERVER_LISEN=1":               "PEERSERVER_LISTEN",
		"PEERSERVER_TRUSTEDPROXY=1":        "PEERSERVER_TRUSTED_PROXY",
		"PEERSERVER_LISTEN=1":              "",
		"PEERSERVER_CONFIG=1":              "",
		"PEERSERVER_PORT=tcp://10.0.0.1:1": "", // Kubernetes sets these
		"PEERSERVER_SERVICE_HOST=10.0.0.1": "",
		"PEERSERVER_PORT_8787_TCP_PORT=1":  "",
		"LISEN=1":                          "",
	} {
		var out bytes.Buffer
		warnOfEnvironment(&out, []string{"HOME=/", env})
		if near == "" && out.Len() > 0 || near != "" && !strings.Contains(out.String(), "did you mean "+near+"?") {
			t.Errorf("%s: %q, want %q", env, out.String(), near)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		d    int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"listen", "listen", 0}, {"lisen", "listen", 1}, {"lsiten", "listen", 2}, {"kitten", "sitting", 3}, {"a", "b", 1}} {
		if got := distance(c.a, c.b); got != c.d {
			t.Errorf("distance(%q, %q) = %d, want %d", c.a, c.b, got, c.d)
		}
	}
}

func TestNearest(t *testing.T) {
	known := []string{"listen-fd", "listen", "peer", "year", "peer-delay"}
	for _, c := range []struct {
		name string
		most int
		want string
	}{{"lisen", 2, "listen"}, {"listenfd", 2, "listen-fd"}, {"pear", 2, "peer"}, {"qqqq", 2, ""}, {"lis", 2, ""}, {"lis", 3, "listen"}, {"peer", 0, "peer"}} {
		if got := nearest(c.name, known, c.most); got != c.want {
			t.Errorf("nearest to %q is %q, want %q", c.name, got, c.want)
		}
	}
}

// No name of a setting may be one that Kubernetes sets by itself for a service
// called peerserver.
func TestNamesInTheEnvironment(t *testing.T) {
	for _, c := range commands() {
		for _, name := range flagNames(flags(c)) {
			if env := envName(name); env == "PEERSERVER_PORT" || strings.HasPrefix(env, "PEERSERVER_PORT_") || strings.HasPrefix(env, "PEERSERVER_SERVICE_") {
				t.Errorf("%s --%s is set by Kubernetes", c.name, name)
			}
		}
	}
}

// No relayed data is said by 0 on the command line and by a negative number in a
// node.Config, whose zero value is the usual.
func TestRelayDataFlag(t *testing.T) {
	for flag, want := range map[int]int{0: -1, -1: -1, 1000: 1000} {
		f := nodeFlags{cfg: node.Config{RelayData: flag}}
		if err := f.complete(); err != nil || f.cfg.RelayData != want {
			t.Errorf("--relay-data %d is %d, %v; want %d", flag, f.cfg.RelayData, err, want)
		}
	}
}

// What is said of doors may be repeated, be a list with commas, or both; tokens
// come from a file as well.
func TestDoorFlags(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(file, []byte("# of Ada\nada-0123456789abcdef\n\n  bob-0123456789abcdef \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var f nodeFlags
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	f.doors.declare(fs)
	env := map[string]string{"PEERSERVER_CLIENTS": "peerjs=10, rxdb = 0", "PEERSERVER_ORIGIN": "https://a.example,https://b.example"}
	err := parseFlags(fs, []string{
		"--without", "matchbox, rxdb", "--without", "peer", "--token", "eve-0123456789abcdef", "--token-file", file,
		"--app", "peerjs:a,b", "--app", "rxdb:c", "--peerjs-discovery", "x,y",
	}, false, func(name string) (string, bool) { v, ok := env[name]; return v, ok })
	if err == nil {
		err = f.complete()
	}
	if err != nil {
		t.Fatal(err)
	}
	c := f.cfg
	for what, lists := range map[string][2][]string{
		"without":   {c.Without, {"matchbox", "rxdb", "peer"}},
		"tokens":    {c.Tokens, {"eve-0123456789abcdef", "ada-0123456789abcdef", "bob-0123456789abcdef"}},
		"apps":      {c.Apps, {"peerjs:a,b", "rxdb:c"}}, // a name may have a comma
		"discovery": {c.PeerJSDiscovery, {"x", "y"}},
		"origins":   {c.Origins, {"https://a.example", "https://b.example"}},
	} {
		if !slices.Equal(lists[0], lists[1]) {
			t.Errorf("%s: %q, want %q", what, lists[0], lists[1])
		}
	}
	if len(c.Clients) != 2 || c.Clients["peerjs"] != 10 {
		t.Errorf("clients: %v", c.Clients)
	}
}

func TestBadDoorFlags(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, []byte("# none\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		flags doorFlags
		says  string
	}{
		{doorFlags{clients: stringList{"peerjs"}}, "door=number, such as peerjs=1000"},
		{doorFlags{clients: stringList{"peerjs=many"}}, `"peerjs=many"`},
		{doorFlags{tokenFile: empty}, "openssl rand"},
		{doorFlags{tokenFile: filepath.Join(dir, "none")}, "no such file"},
		{doorFlags{tokenFile: dir}, "--token-file"},
	} {
		if err := c.flags.complete(new(node.Config)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v, want %q", c.flags, err, c.says)
		}
	}
}
