package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestRun runs the real go test over small modules and reads what is said.
func TestRun(t *testing.T) {
	for _, c := range []struct {
		name, body, ci, want, err string
	}{
		{"pass", `func TestA(t *testing.T) {}`, "true", "ok    scene", ""},
		{"fail", `func TestA(t *testing.T) { t.Error("it broke") }`, "", "it broke", "failed: scene TestA"},
		{"skip", `func TestA(t *testing.T) { t.Skip("needs a moon") }`, "", "needs a moon", ""},
		{"skip in CI", `func TestA(t *testing.T) { t.Skip("needs a moon") }`, "true", "needs a moon", "CI=true allows none"},
		{"node's skip in CI", `func TestA(t *testing.T) { os.Stdout.WriteString("# pass 3\n# skipped 2\n# todo 0\n") }`, "true", "# skipped 2", "1 skipped"},
		{"panic", `func TestA(t *testing.T) { panic("boom") }`, "", "boom", "failed: scene"},
		{"exit", `func TestA(t *testing.T) { println("last words"); syscall.Exit(3) }`, "", "last words", "failed: scene"},
		{"no build", `func TestA(t *testing.T) { undefined() }`, "", "undefined: undefined", "failed: scene"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "go.mod", "module scene\n\ngo 1.26\n")
			write(t, dir, "a_test.go", "package scene\n\nimport (\n\t\"os\"\n\t\"syscall\"\n\t\"testing\"\n)\n\nvar _, _ = os.Exit, syscall.Exit\n\n"+c.body+"\n")
			t.Chdir(dir)
			t.Setenv("CI", c.ci)
			t.Setenv("GOFLAGS", "")
			said, err := capture(t, func() error { return run(context.Background(), []string{"./..."}) })
			if !strings.Contains(said, c.want) {
				t.Errorf("said %q, want %q in it", said, c.want)
			}
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("err = %v, want %q", err, c.err)
			}
		})
	}
}

func TestNoPackages(t *testing.T) {
	if err := run(t.Context(), []string{"-race", "-timeout", "20m"}); err == nil {
		t.Error("tested nothing and passed")
	}
}

func TestShowLeavesOut(t *testing.T) {
	var out bytes.Buffer
	newReport(&out).show(slices.Repeat([]string{"x\n"}, shown))
	if got := strings.Count(out.String(), "\n"); got != shown {
		t.Errorf("%d lines became %d", shown, got)
	}
	out.Reset()
	newReport(&out).show(append(slices.Repeat([]string{"x\n"}, 3*shown), "the end\n"))
	if got := strings.Count(out.String(), "\n"); got != shown+1 || !strings.Contains(out.String(), "(801 lines left out)") || !strings.HasSuffix(out.String(), "the end\n") {
		t.Errorf("%d lines: %q", got, out.String())
	}
}

func TestRemind(t *testing.T) {
	var out bytes.Buffer
	r := newReport(&out)
	now := time.Now()
	r.take(event{Action: "run", Package: "scene", Test: "TestSlow"}, now)
	r.remind(now.Add(quiet / 2))
	if out.Len() > 0 {
		t.Errorf("said %q too early", out.String())
	}
	r.remind(now.Add(2 * quiet))
	if !strings.Contains(out.String(), "TestSlow (2m0s)") {
		t.Errorf("said %q of a slow test", out.String())
	}
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// capture gives what f prints on standard output.
func capture(t *testing.T, f func() error) (string, error) {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	old := os.Stdout
	os.Stdout = file
	defer func() { os.Stdout = old }()
	runErr := f()
	said, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(said), runErr
}
