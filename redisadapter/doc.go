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
//	{evstream:chat}:nodes    sorted set: names of nodes, by the end of their leases
//	{evstream:chat}:n:NODE   hash: channel → readers at that node; expires with the lease
//	{evstream:chat}:trim     string: the node that trims the streams now
//
// A stream's NAME is "live" for what is not kept (state changes, notices of
// nodes, channels without history; the stream holds about a minute of them for
// nodes that lag), and else the policy: "EVENTS-AGE-BYTES", with the age in
// milliseconds.
//
// The meta hash has
//
//	format     1; a node refuses a log whose format it does not know
//	log        the identity of the log: 32 random hexadecimal digits
//	born       the position that the log began at
//	last       "ID NONCE" of the newest entry of all
//	s:NAME     "ID NONCE" of the newest entry of each stream
//	rules      the digest of the rules that the last entries were sorted by
//	mixed      the newest id before which other rules were in force
//	bytes      the size of all values and the names of their channels
//	valueless  how often Redis has lost the values alone, by eviction
//	facts      how many of the values are facts that nodes share: those of
//	           names that begin with "_", which are in no bound on values
//	forgot     when the newest channel lost its value that is no more in gone
//	k0 … k5    the minute that each hash of idempotency keys is of
//
// # Entries
//
// One script, append.lua, decides all operations and gives the ids: the time of
// the Redis server in milliseconds, and a number that tells apart those of one
// millisecond; never below the newest id. An entry of a stream has two fields:
//
//	m   "NONCE ID NONCE": a random word of the batch that the entry came
//	    in, and which entry came before it in its stream ("0-0 -" if none)
//	e   the entry, in the encoding of codec.go, which begins with a version
//
// The nonce is there because an id alone does not say that two entries are the
// same: after a failover the new primary may give an id again, where its clock
// is behind.
//
// When the script meets a policy that has no stream yet, it first adds an entry
// of kind 255 to the stream "live" that names it. A node that comes to such an
// entry reads the new stream from its beginning, before it goes on.
//
// A purge is added to every stream, because a channel's entries may lie in
// another one from before its policy was changed.
//
// # Following
//
// A node waits for all streams with one blocking XREAD, reads them with another
// that does not block, and merges by id. The second one is there because an
// XREAD that was woken up returns one stream only. It is atomic, so that what
// it returns is complete up to the lowest of the last ids of those streams of
// which it returned as many entries as were asked for. Every entry must name the one that was read before it in its
// stream. Where it does not, and every few seconds by comparing the newest id
// that the primary has, the node finds the newest entry that it has applied
// and that Redis has too: what is above was lost by Redis, what is missing
// was trimmed before it was read. Both make the node take its state anew and
// tell its readers. See follow.go and resync.go.
package redisadapter
