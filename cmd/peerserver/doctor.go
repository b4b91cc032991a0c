package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/peerservers/peerserver/cmd/peerserver/doctor"
	"github.com/peerservers/peerserver/node"
)

// doctorFlags are those of doctor.
type doctorFlags struct {
	opts      doctor.Options
	data      string
	bootstrap stringList
	json      bool
}

func doctorEntry() command {
	return command{
		name: "doctor", args: "[URL]", short: "find out what is wrong with a node", set: doctorCommand,
		about: "Looks at a node from where it runs: its record, its clock, the DHT, its ports, TLS, WebSockets, STUN and TURN, and at this machine's NAT. Says of each what it has found and what to do about it. Without URL it looks at the node of this machine. A node behind a firewall is best looked at from another network. The exit status is 1 if something has failed.",
		examples: []string{
			"peerserver doctor", "peerserver doctor https://node.example.org", "peerserver doctor --json ws://192.0.2.1:8787",
		},
	}
}

func doctorCommand(fs *flag.FlagSet) func(context.Context, streams) error {
	var d doctorFlags
	fs.StringVar(&d.opts.Admin, "admin", node.DefaultAdmin, "`address` of the admin pages of the node of this machine")
	fs.StringVar(&d.data, "data", "", "data `folder` of the node of this machine, which says where its admin pages are")
	fs.Var(&d.bootstrap, "bootstrap", "where to meet the DHT, `host:port`; may be repeated; as the node of this machine, or mainline's well-known nodes, if none is given")
	fs.DurationVar(&d.opts.Timeout, "timeout", doctor.Timeout, "end after this `time`")
	fs.DurationVar(&d.opts.Idle, "idle", doctor.Idle, "see whether a quiet WebSocket lives for this `time`; some proxies close it after 60s")
	fs.BoolVar(&d.json, "json", false, "print one line of JSON")
	return func(ctx context.Context, s streams) error {
		if fs.NArg() > 1 {
			return errors.New("name one URL, behind the flags; see \"peerserver doctor --help\"")
		}
		d.opts.URL, d.opts.Bootstrap = fs.Arg(0), d.bootstrap
		if d.data != "" && !isSet(fs, "admin") {
			at, err := node.AdminOf(d.data)
			if err != nil {
				return err
			}
			if at == "" {
				return fmt.Errorf("the node of %s has no admin pages, or has never run; give its URL", d.data)
			}
			d.opts.Admin = at
		}
		return d.run(ctx, s)
	}
}

func (d *doctorFlags) run(ctx context.Context, s streams) error {
	if !d.json {
		d.opts.Progress = func(check string) { fmt.Fprintf(s.err, "looking at %s ...\n", check) }
		d.opts.Found = func(f doctor.Finding) { showFinding(s, f) }
	}
	r := doctor.Run(ctx, d.opts)
	if d.json {
		if err := printJSON(s.out, r); err != nil {
			return err
		}
	} else {
		at := r.URL
		if at == "" {
			at = "the node of this machine"
		}
		fmt.Fprintf(s.out, "\n%s: %d ok, %d warnings, %d failed, %d skipped, in %v\n", at,
			r.Count(doctor.OK), r.Count(doctor.Warning), r.Count(doctor.Failed), r.Count(doctor.Skipped), time.Duration(r.Took)*time.Millisecond)
	}
	if n := r.Count(doctor.Failed); n > 0 {
		return fmt.Errorf("%d of %d findings are failures", n, len(r.Findings))
	}
	return nil
}

// showFinding prints one as two lines, of which the second says what to do.
func showFinding(s streams, f doctor.Finding) {
	code := string(f.Code)
	if f.State == doctor.OK {
		code = f.Check
	}
	fmt.Fprintf(s.out, "%-8s %-20s %s\n", f.State, code, f.Found)
	if f.Do != "" {
		fmt.Fprintln(s.out, wrap(f.Do, "                              ", 120))
	}
}
