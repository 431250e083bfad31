package parked

import (
	"testing"

	"github.com/evstream/caddy-evstream/internal/mutation"
)

// Each of these breaks one thing that a test is about.
func TestTheTestsSeeBrokenCode(t *testing.T) {
	for name, mutant := range map[string]struct{ test, file, old, new string }{
		"a piece is a record":                   {"ThePiecesOfAWriteAreOneRecord", "writer_linux.go", "n, err := conn.Write(buf)", "n, err := conn.Write(buf[:1])\n\tk, _ := conn.Write(buf[1:])\n\tn += k"},
		"a write is of more than there is room": {"NoWriteWaitsForTheClient", "conn_linux.go", "if room == 0 {", "if room += 1 << 20; false {"},
		"a KeyUpdate waits for room":            {"AKeyUpdateToAFullSocketIsReadLater", "group_linux.go", "if tcpsock.Room(c.fd) == 0 {", "if false {"},
		"a KeyUpdate without room is forgotten": {"AKeyUpdateToAFullSocketIsReadLater", "conn_linux.go", "if c.delayed.Swap(false) {", "if false {"},
		"a read leaves its deadline":            {"AWriteAfterAReadHasNoDeadline", "group_linux.go", "_ = c.conn.SetWriteDeadline(time.Time{})", ""},
		"what was read before is left":          {"WhatWasReadOfTheSocketBeforeIsReadToo", "conn_linux.go", "c.Readable() // there", "_ = c // there"},
		"an error of a read is no end":          {"WhatEndsAConnection", "group_linux.go", "return false, true\n}", "return false, false\n}"},
		"a client is read for ever":             {"WhatAClientSaysIsReadABoundedNumberOfTimes", "group_linux.go", "c.turns--", ""},
		"a write that is stuck stays so":        {"AWriteThatIsStuckBreaksTheConnection", "writer_linux.go", "w.stuck.Reset(w.every)\n\t\treturn", "return"},
		"a close sends no close_notify":         {"TheEndOfAConnection", "conn_linux.go", "_ = c.conn.CloseWrite() //", "//"},
		"a hard close is soft":                  {"TheEndOfAConnection", "conn_linux.go", "_ = tcp.SetLinger(0)", ""},
		"input turns a close into a reset":      {"TheEndOfAConnection", "conn_linux.go", "tcpsock.DiscardInput(c.fd)", ""},
		"a write that was refused is not told":  {"NobodyWaitsForWhoeverReads", "group_linux.go", "if c.refused.Swap(false) {", "if false {"},
		"a close while it is read is forgotten": {"NobodyWaitsForWhoeverReads", "group_linux.go", "c.closeIfAsked()", ""},
		"what only seems to be TCP is parked":   {"WhatIsNotOverTCPIsNotParked", "conn_linux.go", "if !ok {\n\t\treturn nil\n\t}\n\treturn &Conn", "return &Conn"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mutation.Kills(t, "^Test"+mutant.test+"$", mutant.file, mutant.old, mutant.new)
		})
	}
}
