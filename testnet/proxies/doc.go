// Package proxies has only tests: Caddy and nginx, as Debian has them, before a
// node, with the very configurations that docs/operators.md shows.
package proxies
