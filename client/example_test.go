package client_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/client"
	"github.com/evstream/caddy-evstream/httpapi"
	"github.com/evstream/caddy-evstream/hub"
)

// startHub is a hub at a URL, for the examples.
func startHub() (url string, stop func()) {
	h, err := hub.Open(broker.NewMemory(), hub.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		panic(err)
	}
	handler, err := httpapi.New(h, httpapi.Config{Mount: "/live", Access: access.AllowAll()})
	if err != nil {
		panic(err)
	}
	server := httptest.NewServer(handler)
	return server.URL + "/live", func() {
		server.CloseClientConnections()
		server.Close()
		_ = h.Close()
	}
}

func Example() {
	url, stop := startHub()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()

	c, err := client.New(url, client.Options{Credential: client.Token(os.Getenv("EVSTREAM_TOKEN"))})
	if err != nil {
		panic(err)
	}
	defer c.Close()

	done, err := c.Publish(ctx, client.Publication{Channel: "match.7", Type: "score", Data: []byte(`{"home":2}`)})
	if err != nil {
		panic(err)
	}

	// It goes on over cuts and restarts, until the loop is left.
	s := c.Subscribe(ctx, client.SubscribeOptions{Channels: []string{"match.*"}, Last: 1})
	for e, err := range s.All() {
		var gap *client.GapError
		switch {
		case errors.As(err, &gap):
			fmt.Println("load everything again:", gap) // and the loop goes on
			continue
		case err != nil:
			panic(err)
		}
		fmt.Println(e.Channel, e.Type, string(e.Data), e.ID == done.ID)
		break
	}
	// Output: match.7 score {"home":2} true
}

func ExampleClient_Publish() {
	url, stop := startHub()
	defer stop()
	c, err := client.New(url, client.Options{})
	if err != nil {
		panic(err)
	}
	defer c.Close()

	// A key of the program's own: also a later run publishes it once.
	paid := client.Publication{Channel: "orders/17", Data: []byte("paid"), Key: "order-17-paid"}
	for range 2 {
		done, err := c.Publish(context.Background(), paid)
		var unknown *client.UnknownError
		switch {
		case errors.As(err, &unknown):
			fmt.Println("may be published; try again with the key", unknown.Key)
		case err != nil:
			fmt.Println("not published:", err)
		default:
			fmt.Println("published, before:", done.Replayed)
		}
	}
	// Output:
	// published, before: false
	// published, before: true
}

func ExampleClient_PublishLines() {
	url, stop := startHub()
	defer stop()
	c, err := client.New(url, client.Options{})
	if err != nil {
		panic(err)
	}
	defer c.Close()

	tokens := func(yield func(client.Publication, error) bool) { // as a model gives them
		for _, token := range []string{"Hel", "lo"} {
			if !yield(client.Publication{Channel: "chat/42", Type: "token", Data: []byte(token)}, nil) {
				return
			}
		}
	}
	done, err := c.PublishLines(context.Background(), tokens)
	fmt.Println(done.Count, err)
	// Output: 2 <nil>
}

func ExampleClient_Watch() {
	url, stop := startHub()
	defer stop()
	ctx := context.Background()
	c, err := client.New(url, client.Options{})
	if err != nil {
		panic(err)
	}
	defer c.Close()

	for value, err := range c.Watch(ctx, "user-count", client.SubscribeOptions{}) {
		if err != nil {
			panic(err)
		}
		fmt.Printf("%q\n", value.JSON)
		if string(value.JSON) == "2" {
			break
		}
		if _, err := c.AddToValue(ctx, "user-count", "1", client.Write{}); err != nil {
			panic(err)
		}
	}
	// Output:
	// ""
	// "1"
	// "2"
}

func ExampleUpdate() {
	url, stop := startHub()
	defer stop()
	c, err := client.New(url, client.Options{})
	if err != nil {
		panic(err)
	}
	defer c.Close()

	type score struct{ Home, Away int }
	now, err := client.Update(context.Background(), c, "match.7", func(s score) (score, error) {
		s.Home++ // is called again if somebody else writes meanwhile
		return s, nil
	})
	fmt.Println(now, err)
	// Output: {1 0} <nil>
}

// A token that expires is got from the application that signs it.
func ExampleCredentialFunc() {
	fetch := func(ctx context.Context) (client.Credential, error) {
		token, err := signedToken(ctx)
		return client.Credential{Token: token, Expires: time.Now().Add(time.Hour)}, err
	}
	c, err := client.New("https://example.com/live", client.Options{Credential: fetch})
	fmt.Println(c != nil, err)
	// Output: true <nil>
}

func signedToken(context.Context) (string, error) { return "a token", nil }
