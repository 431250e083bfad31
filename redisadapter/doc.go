// Package redisadapter is a [broker.Log] in Redis, which any number of nodes
// share: one order, one state, no other connection between the nodes.
//
// # What is in Redis
//
// All keys begin with one hash tag, so that they lie in one slot of a Redis
// Cluster and one script reaches all of them. With the prefix "evstream:chat":
//
//	{evstream:chat}:meta     hash: what the log is, see below
//	{evstream:chat}:s:NAME   stream: the entries of channels of one history policy
//	{evstream:chat}:state    hash: channel → "version written size session digest" of its value
//	{evstream:chat}:value    hash: channel → its value, as JSON text
//	{evstream:chat}:k0 … k5  hashes: idempotency keys, each of one minute
//	{evstream:chat}:gone     sorted set: channels that lost their value, by when
//	{evstream:chat}:closed   hash: channel → "id until" of its being closed; until is in milliseconds, or 0
//	{evstream:chat}:closing  sorted set: those of them that are open again at some time, by when
//	{evstream:chat}:nodes    sorted set: names of nodes, by the end of their leases
//	{evstream:chat}:n:NODE   hash: channel → readers at that node; expires with the lease
//	{evstream:chat}:trim     string: the node that trims the streams now
//
// A stream's NAME is the history policy of its channels, "EVENTS-AGE-BYTES" with
// the age in milliseconds, or "live" for what no history keeps: state changes,
// notices of nodes and channels without history. Of those the stream holds about
// a minute, for nodes that lag.
//
// The meta hash has
//
//	format     1; a node refuses a log whose format it does not know
//	log        the identity of the log: 32 random hexadecimal digits
//	born       the position that the log began at
//	last       "ID NONCE" of the newest entry of all
//	s:NAME     "ID NONCE" of the newest entry of each stream
//	rules      the digest of the rules that chose the streams of the last entries
//	mixed      the newest id before which other rules were in force
//	bytes      the size of all values and the names of their channels
//	valueless  how often Redis has evicted the values, or which channels are
//	           closed, and nothing else
//	facts      how many of the values are facts of nodes: their names begin with
//	           "_", and no bound on values counts them
//	forgot     when the value of a channel was removed last, of those channels
//	           that gone does not list any more
//	closed     how many channels are closed, counting those that are over and not
//	           removed yet. Without it the keys closed and closing are those of a
//	           log that is gone
//	k0 … k5    of which minute each hash of idempotency keys is
//
// # Entries
//
// One script, append.lua, decides all operations and assigns the ids: the time of
// the Redis server in milliseconds and a number within the millisecond, always
// above the newest id. An entry of a stream has two fields, or three:
//
//	m   "NONCE ID NONCE": a random word of the batch that the entry came
//	    in, and id and nonce of the entry before it in its stream ("0-0 -" if
//	    there is none)
//	e   the entry, in the encoding of internal/entry/codec.go, which begins with a
//	    version
//	o   in whose share it counts, a broker.Owner in hexadecimal digits, if in any.
//	    Nodes before this field ignore it; their entries have none.
//
// The nonce tells apart two entries with one id: after a failover a primary
// whose clock is behind may assign an id again.
//
// Before the script adds the first entry to a new stream, it adds one of kind 255
// to the stream "live" that names the new one. A node that reads it reads the new
// stream from its beginning before it goes on.
//
// A purge is added to every stream: after a change of its policy a channel has
// entries in more than one.
//
// # Following
//
// A node waits for all streams with a blocking XREAD, reads them with another
// XREAD that does not block, and merges by id. It needs the second one because an
// XREAD that had to wait returns one stream only. One that does not wait is
// atomic: of a stream of which it returns fewer entries than were asked for there
// are no more, so that the merge is complete up to the lowest last id of the
// others.
//
// Every entry must name the one that was read before it in its stream. Where one
// does not, or where the newest entry of the primary, which the node asks for
// every few seconds, contradicts what it has read, the node looks for the newest
// entry that it has applied and that Redis has. What it has applied above that,
// Redis has lost; what is missing below was trimmed before it was read. In both
// cases the node loads its state again and tells its readers. See follow.go,
// watch.go and resync.go.
package redisadapter
