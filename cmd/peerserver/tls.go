package main

import (
	"flag"
	"net"
	"strconv"

	"github.com/peerservers/peerserver/node"
)

// tlsFlags declares what the node's port shows in TLS handshakes.
func tlsFlags(fs *flag.FlagSet, cfg *node.Config) {
	fs.Var((*stringList)(&cfg.TLSDomains), "tls-domain", "host `name` of this node: the port speaks TLS, with a certificate from Let's Encrypt, whose terms are agreed to, and which is renewed; wss://name is then the node's URL; may be repeated")
	fs.StringVar(&cfg.TLSCert, "tls-cert", "", "`file` with a certificate and those of its issuers, in PEM: the port speaks TLS with it; read again when it changes")
	fs.StringVar(&cfg.TLSKey, "tls-key", "", "`file` with the key of --tls-cert")
	fs.StringVar(&cfg.ACMEHTTP, "acme-http", "", "`address` for HTTP, such as :80, where the CA of --tls-domain may ask too, and browsers are sent on to TLS; without it, the CA asks on the node's port, which has to be 443 from outside")
	fs.StringVar(&cfg.ACMEDirectory, "acme-directory", "", "`URL` of another CA's ACME directory for --tls-domain")
	fs.StringVar(&cfg.ACMEEmail, "acme-email", "", "`address` to which the CA can write about --tls-domain")
}

// base is where a node's port is reached, by name if it has a certificate for one.
func base(n *node.Node) (http, ws string) {
	names := n.TLS()
	if names == nil {
		host := local(n.Addr())
		return "http://" + host, "ws://" + host
	}
	host := local(n.Addr())
	if len(names) > 0 {
		host = names[0]
		if tcp, ok := n.Addr().(*net.TCPAddr); ok && tcp.Port != 443 {
			host = net.JoinHostPort(host, strconv.Itoa(tcp.Port))
		}
	}
	return "https://" + host, "wss://" + host
}
