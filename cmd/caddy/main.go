// Command caddy is Caddy with its standard modules, evstream, and the matches
// that the example page shows.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/evstream/caddy-evstream"
	_ "github.com/evstream/caddy-evstream/examples/scoreboard"
)

func main() { caddycmd.Main() }
