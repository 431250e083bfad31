package state_test

import (
	"context"
	"fmt"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/state"
)

// How many users there are, for everybody who subscribes to user-count.
func Example() {
	b, err := broker.New(broker.NewMemory(), broker.DefaultConfig())
	if err != nil {
		panic(err)
	}
	defer b.Close()
	ctx := context.Background()

	users, err := state.New(b, "user-count", 0)
	if err != nil {
		panic(err)
	}

	// A user comes, another one, and one leaves. Whatever runs beside it, no
	// change is lost.
	_, _ = users.Set(ctx, func(n int) int { return n + 1 })
	_, _ = users.Set(ctx, func(n int) int { return n + 1 })
	n, err := users.Set(ctx, func(n int) int { return n - 1 })
	if err != nil {
		panic(err)
	}
	fmt.Println("users:", n)

	// The value, and then each change as it happens.
	for n, err := range users.Watch(ctx) {
		if err != nil {
			panic(err)
		}
		fmt.Println("watched:", n)
		break
	}
	// Output:
	// users: 1
	// watched: 1
}

// Values that are made and removed while the program runs.
func ExampleManager() {
	b, err := broker.New(broker.NewMemory(), broker.DefaultConfig())
	if err != nil {
		panic(err)
	}
	defer b.Close()
	ctx := context.Background()

	rooms := state.NewManager[[]string](b)
	room, err := rooms.Create(ctx, "rooms/1", []string{"ada"})
	if err != nil {
		panic(err)
	}
	_, _ = room.Set(ctx, func(names []string) []string { return append(names, "grace") })

	again, _ := rooms.Create(ctx, "rooms/1", nil) // it is there already
	names, _ := again.Get()
	fmt.Println(names, rooms.Has("rooms/2"))

	removed, _ := rooms.Remove(ctx, "rooms/1")
	fmt.Println(removed, rooms.Has("rooms/1"))
	// Output:
	// [ada grace] false
	// true false
}
