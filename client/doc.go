// Package client is a client of evstream hubs: it subscribes, publishes, and reads and
// writes the values of channels, over the HTTP contract of docs/http.md.
//
//	c, err := client.New("https://example.com/live", client.Options{Credential: client.Token(token)})
//	...
//	for e, err := range c.Subscribe(ctx, client.SubscribeOptions{Channels: []string{"match.*"}}).All() {
//		...
//	}
//
// A [Subscription] comes back by itself after a cut, a restart and an exit of the hub,
// and goes on with exactly the next event. Where events were lost, [Subscription.Next]
// returns a [GapError], so that a loss is never silent. A write that fails for a while
// is tried again, with an idempotency key, so that it is done once. If it is not known
// whether it was done, the error is an [UnknownError].
//
// A [Client] is safe for concurrent use and has no goroutines of its own. Contexts bound
// everything that waits: a write with all its attempts, and a Subscription from its
// first connection to its end.
package client
