// Command bench measures this working copy: how fast events reach many
// subscribers, what that costs, and what a connection costs. It needs Linux.
//
//	make bench                       # everything, about seven minutes
//	make bench BENCH=fanout,latency  # some scenarios
//	make bench BENCH=replay BENCHFLAGS='-profile bin/profiles'  # and CPU profiles
//	go run ./bench -h                # what can be changed
//
// Each figure is printed beside that of a plain net/http broadcaster, which writes
// the same bytes to the same subscribers in the same run. Machines differ, and so
// does one machine from minute to minute, so that the ratio tells more than the
// figure. Each run starts a new server process; the servers alternate, in rotating
// order. The printed figures are medians, with the range.
//
// The target evstream is Caddy with the defaults of the handler, evstream-attached
// the same with "delivery attached". The baseline queues up to 256 events for a
// subscriber that stalls, and then disconnects it; evstream disconnects it after
// write_timeout, 10 s. So with -t above 8s the scenario measures something else.
//
// The scenario headofline has five times the subscribers on one channel, and one on
// another, whose latency it measures. Its targets share the work between two channels;
// the load looks at the one subscriber first.
//
// The scenarios redis and followers start a redis-server, which must be installed.
// Their targets are nodes with a log in Redis, a node with a log in memory, and
// plain net/http nodes that use the pub/sub of Redis.
//
// With two cores or more, the server has one core and the load has the others.
// Subscribers are raw sockets that one thread reads, which is cheap. Over TLS and
// HTTP/2 they are the client of Go, which costs more than the server: there the
// CPU of the server tells more than the rate.
//
// Latency is the time from when an event was due to be published until a subscriber
// has read it. CPU is that of the server process; on loopback it includes the work
// of the kernel to receive what the server sends. Memory is the resident memory of
// the process, without the socket buffers of the kernel. A run fails unless every
// subscriber gets every event once, and all of them in one order.
package main
