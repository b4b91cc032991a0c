package main

import (
	"context"
	"flag"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/peerservers/peerserver/protocol"
)

func versionCommand(fs *flag.FlagSet) func(context.Context, streams) error {
	asJSON := fs.Bool("json", false, "print one line of JSON")
	return func(_ context.Context, s streams) error {
		v, platform := version(), runtime.GOOS+"/"+runtime.GOARCH
		if *asJSON {
			return printJSON(s.out, map[string]any{
				"version": v, "protocol": protocol.Version, "go": runtime.Version(), "platform": platform,
			})
		}
		_, err := fmt.Fprintf(s.out, "peerserver %s, protocol %d, %s %s\n", v, protocol.Version, runtime.Version(), platform)
		return err
	}
}

// version is the module's, or the commit it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	if v == "" || v == "(devel)" {
		v = "devel"
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				v += "-" + s.Value[:min(12, len(s.Value))]
			}
		}
	}
	return v
}
