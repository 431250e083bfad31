// Command bench measures this working copy: how fast events reach many
// subscribers, what that costs, and what a connection costs. It needs Linux.
//
//	make bench                       # everything, about seven minutes
//	make bench BENCH=fanout,latency  # some scenarios
//	make bench BENCH=replay BENCHFLAGS='-profile bin/profiles'  # and CPU profiles
//	go run ./bench -h                # what can be changed
//
// Each figure stands beside that of a plain net/http broadcaster, which writes
// the same bytes to the same subscribers in the same run: machines differ, and
// so do two minutes on one of them, so a ratio tells more than a figure. A run
// starts a fresh server in a process of its own; the servers alternate, in an
// order that rotates, and what is printed are medians with the range.
//
// The target evstream is Caddy with the handler's defaults, evstream-attached
// the same with "delivery attached". The baseline holds up to 256 events for a
// subscriber that stalls and then lets go of it; evstream does so after
// write_timeout, 10 s, so that -t above 8s shows something else there.
//
// The scenarios redis and followers need a redis-server, which they start. They
// have targets of their own: nodes whose log is in Redis, beside the memory log
// and beside plain net/http nodes that use Redis's pub/sub.
//
// Where there are two cores or more, the server has one to itself and the load
// has the others. Subscribers are raw sockets that one thread reads, so that
// they cost little; over TLS and HTTP/2 they are Go's own client, which costs
// more than the server: look at the server's CPU there, and not at the rate.
//
// Latency is from when an event was due to be published until a subscriber has
// read it. CPU is that of the server's whole process; on loopback it includes
// the kernel's work to receive what it sends. Memory is the process's resident
// memory, which does not include the kernel's socket buffers. Every subscriber
// has to get every event once, and all in one order, or the run fails.
package main
