// Command caddy is Caddy with its standard modules and evstream.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/evstream/caddy-evstream"
)

func main() { caddycmd.Main() }
