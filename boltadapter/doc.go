// Package boltadapter is a broker.Log on the disk of one machine. What it has
// acknowledged survives a crash, a power cut and a full disk.
//
// # The directory
//
//	meta.db                        bbolt: values, removed names, and what the segments
//	                               must have; written a second after a change
//	segments/<chain>/<number>.log  entries, in one write and one sync a commit
//
// A chain has the entries of one history policy, so that a segment can be removed
// whole when its newest entry is past that. Its name is a hash of the policy. Changes
// of values, and events of channels without a history, are in the chain of the zero
// policy. bbolt's lock on meta.db is the lock on the directory.
//
// # A segment
//
// Numbers are little-endian. The header has 96 bytes:
//
//	0   "evstrseg", then the format: 1 (uint32), 4 bytes of zero
//	16  the identity of the log (16 bytes)
//	32  the hash of the policy (8 bytes)
//	40  the number of the segment in its chain, from 1 on, without a hole
//	48  the number of its first frame in the chain, from 1 on, without a hole
//	56  the policy: events, age in nanoseconds, bytes (uint64 each)
//	80  zero (12 bytes)
//	92  CRC32C of all before
//
// Then come frames, one for each commit that the chain is part of:
//
//	0   "evfr"
//	4   the length of the records (uint32)
//	8   the number of the commit (uint64), which rises
//	16  the number of the frame in the chain (uint64)
//	24  how many chains the commit is part of (uint32)
//	28  CRC32C of the identity, the chain, the number of the segment, the offset of the
//	    frame in it, the bytes before and the records
//	32  the records
//
// Behind the last frame the newest segment of a chain may be filled with the byte 0xE5, as
// far as a MiB and not beyond 16 MiB: where a file does not grow, a sync need not have the
// file system write its journal. A step of fill is written together with the frame that needed
// it, and synced by the same sync. It is cut off, durably, before the next segment begins and
// when the log is closed; a backup has none. Large commits, and those that are not synced, let
// the file grow.
//
// A frame that is found elsewhere than where it was written is not taken for one
// of that place. A record is a byte of its type, the length of what follows (uvarint),
// and by its type
//
//	1  an entry: id (two uint64), owner (uint64), and the form of package codec; of
//	   KindState with its value at the end
//	2  an idempotency key: id of the answer, time (int64, ms), digest (32 bytes), flags
//	   (1: created, 2: has an answer), identity and key (each with its length), answer
//	3  a value was written without a change: time (uint64, ms), name
//	4  the rules of histories changed: id of the newest entry before, digest (uint64)
//
// # What a commit promises
//
// One goroutine takes all that waits, decides it, writes one frame for each chain that
// it touches, syncs these files, applies the entries, and answers. A lone publisher
// waits for nobody else. What is decided only by what is stored already is answered
// without a write.
//
// A commit that is in several chains counts only if all frames are there. When the log
// is opened, the newest commit may be incomplete, because power was cut: it was not
// acknowledged, and is removed. So is whatever else is behind the last frame, unless it is
// fill: all that was acknowledged was synced, and so was the fill that it was written into,
// so only one write can be there by a part. If a whole frame follows nevertheless, something
// between was lost. Any other frame that is damaged or missing makes the
// log refuse to open, with the file and the place; and so does anything less than what
// meta.db says that the segments had.
//
// When a write fails, the files are truncated to what was stored, and the operations
// are refused: with broker.ErrFull if there was no room. When a sync fails, nobody
// knows what the disk has: those who wait get broker.ErrUncertain, and every later
// operation broker.ErrUnavailable, until the log is opened anew.
//
// # meta.db
//
// Buckets: "meta" (format, identity, born, and "mark": the newest id and commit, the
// rules, and for each chain its policy, the newest id that was removed, and where it
// must reach), "values" (by name: version, time of writing, owner, session, value) and
// "removed" (by name: the id of the removal). bbolt has no checksums of its own data, so
// every row ends with a CRC32C of its key and content, and the mark has the number and
// the sum of all rows, so that a row that vanishes is noticed.
//
// Restore notes in the mark which ids the log may have issued and does not have: those
// above the newest one of the backup, up to the time of the restore. New ids are above
// them. A reader whose cursor is one of them gets a gap; and so does one whose cursor is
// of before, because what is lost may have been for it.
//
// The mark is what the rows cover. When the log is opened, changes above it are read
// from the segments, which are not removed before.
package boltadapter
