//go:build linux

// Package e2e_test runs the end-to-end suites: other people's clients, in
// Chromium and in Node.js, over nodes that are real processes. The suites are
// the *.test.mjs files beside this one; run.mjs runs one of them by hand.
package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	// endWithin is how long the suites may take to end once told to.
	endWithin = 10 * time.Second
	// oldestNode is the first major version of Node.js that the packages take.
	oldestNode = 20
)

func TestSuites(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: minutes of real browsers")
	}
	chromium := find("E2E_CHROMIUM", "chromium", "chromium-browser", "google-chrome")
	firefox := findFirefox(t.Context())
	if lacking := lacking(t.Context(), chromium); len(lacking) > 0 {
		text := "the end-to-end suites need " + strings.Join(lacking, ", ")
		if os.Getenv("CI") == "true" {
			t.Fatal(text)
		}
		t.Skip(text)
	}
	openInputs(t)
	installPackages(t)
	bin := t.TempDir()
	env := append(
		os.Environ(),
		"E2E_BIN="+build(t, os.Environ(), "../..", "./cmd/peerserver", filepath.Join(bin, "peerserver"), raceFlags...),
		// With cgo its uTP, which it does not use here, would need a C++ compiler.
		"E2E_TORRENT="+build(t, append(os.Environ(), "CGO_ENABLED=0"), "../torrent", ".", filepath.Join(bin, "torrent")),
		"E2E_CHROMIUM="+chromium,
		"E2E_FIREFOX="+firefox,
	)
	t.Run("Firefox", func(t *testing.T) {
		if firefox == "" {
			t.Skip("the scenes with Firefox need a Firefox that runs (E2E_FIREFOX names another than firefox-esr)")
		}
	})
	suites, err := filepath.Glob("*.test.mjs")
	if err != nil {
		t.Fatal(err)
	}
	if len(suites) == 0 {
		t.Fatal("no suites here")
	}
	for _, suite := range suites {
		t.Run(strings.TrimSuffix(suite, ".test.mjs"), func(t *testing.T) {
			// Whatever the suite or its browser leaves behind goes with this folder.
			start(t, ".", append(slices.Clone(env), "TMPDIR="+t.TempDir()), "node", "run.mjs", suite)
		})
	}
}

// openInputs opens every file that the suites and the programs under test are
// made of: go test keeps a pass for as long as the files that a test opened
// stay the same, and it cannot see what the children open.
func openInputs(t *testing.T) {
	t.Helper()
	files := 0
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if d.Name() == "node_modules" || d.Name() == ".git" {
				return filepath.SkipDir
			}
			return nil
		}
		switch filepath.Ext(path) {
		case ".go", ".mod", ".sum", ".mjs", ".js", ".ts", ".json":
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			files++
			return f.Close()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 30 {
		t.Fatalf("opened %d files only; the walk does not see the repository", files)
	}
}

// find returns the program that a setting names, or the first of names that is
// there, or nothing.
func find(setting string, names ...string) string {
	if path := os.Getenv(setting); path != "" {
		return path
	}
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// findFirefox returns a Firefox that runs: Ubuntu's may be a script that only
// says how to get one. Without one its scenes are skipped.
func findFirefox(ctx context.Context) string {
	path := find("E2E_FIREFOX", "firefox-esr", "firefox")
	if path == "" || exec.CommandContext(ctx, path, "--version").Run() != nil {
		return ""
	}
	return path
}

// lacking names what this machine has not.
func lacking(ctx context.Context, chromium string) []string {
	var missing []string
	for _, name := range []string{"npm", "ip", "openssl", "setpriv", "unshare"} {
		if _, err := exec.LookPath(name); err != nil {
			missing = append(missing, name)
		}
	}
	node := fmt.Sprintf("process.exit(parseInt(process.versions.node) >= %d ? 0 : 1)", oldestNode)
	if err := exec.CommandContext(ctx, "node", "-e", node).Run(); err != nil {
		missing = append(missing, fmt.Sprintf("Node.js %d or newer", oldestNode))
	}
	// Ubuntu's chromium may be a script that only says how to get one.
	if chromium == "" || exec.CommandContext(ctx, chromium, "--version").Run() != nil {
		missing = append(missing, "a Chromium that runs (E2E_CHROMIUM names another than chromium)")
	}
	args := []string{"--net", "--pid", "--fork", "--kill-child", "--mount-proc", "true"}
	if os.Getuid() != 0 {
		args = append([]string{"--user", "--map-root-user"}, args...)
	}
	if err := exec.CommandContext(ctx, "unshare", args...).Run(); err != nil {
		missing = append(missing, "root, or the right to make namespaces")
	}
	return missing
}

// installPackages makes node_modules what package-lock.json says.
func installPackages(t *testing.T) {
	t.Helper()
	done, err := os.Stat("node_modules/.package-lock.json")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	wanted, wantedErr := os.Stat("package-lock.json")
	if wantedErr != nil {
		t.Fatal(wantedErr)
	}
	if err == nil && done.ModTime().After(wanted.ModTime()) {
		return
	}
	start(t, ".", os.Environ(), "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
}

// build makes a binary of a package of the module in dir.
func build(t *testing.T, env []string, dir, pkg, out string, flags ...string) string {
	t.Helper()
	args := append([]string{"build", "-o", out}, flags...)
	start(t, dir, env, "go", append(args, pkg)...)
	return out
}

// start runs a command to its end, its output with the test's.
func start(t *testing.T, dir string, env []string, name string, args ...string) {
	t.Helper()
	// The signal that the child gets when its parent dies comes when its parent's thread does.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir, cmd.Env = dir, env
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = endWithin
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v", name, strings.Join(args, " "), err)
	}
}
