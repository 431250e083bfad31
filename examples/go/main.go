// Command go is a hub in a plain Go program: that of README.md, with a JWT rule.
package main

import (
	"cmp"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/auth"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/httpapi"
	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/stream"
)

func main() {
	h := must(hub.Open(broker.NewMemory(), hub.Config{}))
	rules := []access.Rule{
		{Who: "anyone", Do: []string{"subscribe", "publish"}, Channels: []string{"match.*", "public/**"}},
		{Who: "user", Do: []string{"subscribe", "publish"}, Channels: []string{"users/{user}/**"}},
	}
	who := &auth.Config{JWT: &auth.JWT{Keys: []auth.Key{{Text: cmp.Or(os.Getenv("JWT_SECRET"), "for a try only: 32 bytes or more")}}}}
	handler := must(httpapi.New(h, httpapi.Config{
		Mount:  "/live",
		Access: must(who.Policy(rules)),
		Auth:   must(auth.Open(who, auth.Deps{Revocations: h, TicketStore: h})),
	}))
	server := &http.Server{Addr: cmp.Or(os.Getenv("ADDRESS"), "localhost:8080"), Handler: handler, ConnContext: stream.ConnContext, ReadHeaderTimeout: time.Minute}
	log.Fatal(server.ListenAndServe())
}

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}
