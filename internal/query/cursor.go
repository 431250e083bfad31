package query

import "strings"

// ownCursor is the parameter by which a page gives the last event id in a URL that it
// makes.
const ownCursor = "last_event_id"

// isCursor reports whether a parameter is the last event id, in one of the spellings of
// the libraries that add it to a page's URL when they reconnect: lastEventId, lastEventID,
// Last-Event-ID, evs_last_event_id.
func isCursor(name string) bool {
	if len(name) > 2*len(ownCursor) {
		return false
	}
	bare := strings.NewReplacer("-", "", "_", "").Replace(strings.ToLower(name))
	return bare == "lasteventid" || bare == "evslasteventid"
}

// Cursor returns the last event id, "" for none. The one that a library added is newer
// than the page's own, and the last in the URL is the newest. One without a value is none.
func (q Query) Cursor() (string, error) {
	if q == "" {
		return "", nil
	}
	var cursors [2]string // the page's own, and that of a library
	for i, of := range []func(string) bool{
		func(name string) bool { return name == ownCursor },
		func(name string) bool { return name != ownCursor && isCursor(name) },
	} {
		err := q.each(of, func(value string) bool {
			if value != "" {
				cursors[i] = value
			}
			return true
		})
		if err != nil {
			return "", err
		}
	}
	if cursors[1] != "" {
		return cursors[1], nil
	}
	return cursors[0], nil
}
