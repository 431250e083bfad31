// Command caddy is Caddy with its standard modules, evstream, and the scoreboard
// of the example page.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/evstream/caddy-evstream"
	_ "github.com/evstream/caddy-evstream/examples/scoreboard"
)

func main() { caddycmd.Main() }
