package entry

import (
	"strconv"
	"strings"

	"github.com/evstream/caddy-evstream/broker"
)

// Row is what the state hash holds about the value of a channel.
type Row struct {
	Version broker.ID
	Written uint64 // in milliseconds since 1970
	Size    int    // of the value and the name of its channel
	Session string
}

// ParseRow reads "VERSION WRITTEN SIZE SESSION DIGEST". Only the session may
// have spaces, and may be empty.
func ParseRow(s string) (r Row, ok bool) {
	version, s, _ := strings.Cut(s, " ")
	written, s, _ := strings.Cut(s, " ")
	size, s, found := strings.Cut(s, " ")
	end := strings.LastIndexByte(s, ' ')
	if !found || end < 0 {
		return Row{}, false
	}
	id, ok := broker.ParseID(version)
	ms, err := strconv.ParseUint(written, 10, 64)
	n, err2 := strconv.Atoi(size)
	return Row{Version: id, Written: ms, Size: n, Session: strings.Clone(s[:end])}, ok && err == nil && err2 == nil
}
