package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/peerservers/peerserver/node"
)

// doorFlags are those that say which doors a node has, and for whom.
type doorFlags struct {
	without, clients, discovery stringList
	tokens, apps, origins       stringList
	tokenFile                   string
}

func (f *doorFlags) declare(fs *flag.FlagSet) {
	all := strings.Join(node.Doors(), ", ")
	fs.Var(&f.without, "without", "`door` that the node does not have, of "+all+"; may be repeated")
	fs.Var(&f.clients, "clients", "how many clients a door may have at a time, `door=number`; may be repeated; no bound if none is given")
	fs.Var(&f.discovery, "peerjs-discovery", "`key` of which any PeerJS client may list the ids; may be repeated")
	fs.Var(&f.tokens, "token", "`text` that clients have to give in their URL, as /t/TOKEN/ or ?token=TOKEN; may be repeated; other users of this machine see it, unlike that of --token-file")
	fs.StringVar(&f.tokenFile, "token-file", "", "`file` with such tokens, a line each; # starts a comment")
	fs.Var(&f.apps, "app", "the only apps that are served, `door:name`, such as peerjs:my-key; all if none is given; may be repeated")
	fs.Var(&f.origins, "origin", "web `origin` that may connect, all if none is given; may be repeated")
}

// complete puts the flags into a node.Config.
func (f *doorFlags) complete(cfg *node.Config) error {
	cfg.Without, cfg.PeerJSDiscovery = split(f.without), split(f.discovery)
	cfg.Apps, cfg.Origins = f.apps, f.origins
	cfg.Clients = make(map[string]int)
	for _, s := range split(f.clients) {
		door, number, _ := strings.Cut(s, "=")
		n, err := strconv.Atoi(strings.TrimSpace(number))
		if err != nil {
			return fmt.Errorf("--clients %q is not of the form door=number, such as peerjs=1000", s)
		}
		cfg.Clients[strings.TrimSpace(door)] = n
	}
	cfg.Tokens = append(cfg.Tokens, f.tokens...)
	if f.tokenFile == "" {
		return nil
	}
	tokens, err := readTokens(f.tokenFile)
	cfg.Tokens = append(cfg.Tokens, tokens...)
	return err
}

// split takes lists with commas on the command line too, for what has none in it.
func split(list stringList) (all []string) {
	for _, s := range list {
		for v := range strings.SplitSeq(s, ",") {
			if v = strings.TrimSpace(v); v != "" {
				all = append(all, v)
			}
		}
	}
	return all
}

// readTokens reads a file of tokens. One that has none would leave the node open
// to all, which is not what who names a file means.
func readTokens(name string) (tokens []string, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("--token-file: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if line := strings.TrimSpace(lines.Text()); line != "" && line[0] != '#' {
			tokens = append(tokens, line)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("--token-file %s: %w", name, err)
	}
	if len(tokens) == 0 {
		return nil, errors.New("--token-file " + name + ": there is no token in it; \"openssl rand -hex 16\" makes one")
	}
	return tokens, nil
}
