// Package entry is the form of what a log in Redis holds: entries, the points that
// chain them, the names of streams, the rows about values, and operations as the
// script append.lua takes them. It turns them into bytes and back, and talks to
// nobody. What the log is made of as a whole, and what the fields of an entry mean,
// is in the documentation of package redisadapter.
//
//	broker.Op   NewOp  →  Op, the arguments of append.lua, with Encode's bytes
//	reply       Read   →  Raw, an entry and its chain  Decode  →  broker.Entry
//
// Every function is safe for concurrent use. What they return is the caller's; only
// Raw.Body and Op.Args still point into what they were made of. Nothing here
// changes what it is given.
package entry
