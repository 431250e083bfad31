package redisadapter

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/redisadapter/internal/entry"
)

// view is the state of the log in Redis at one moment.
type view struct {
	of      lineage
	born    broker.ID
	last    entry.Point // the newest entry of all
	mixed   broker.ID
	streams []viewed // the first is "live"
}

// viewed is the state of a stream, seen from a position.
type viewed struct {
	name string
	last entry.Point // the newest entry that was ever in it
	// before is the predecessor of the first entry above the position or, if
	// there is none above it, last.
	before entry.Point
}

// maxLooks bounds how often look starts again because there is a new stream.
const maxLooks = 10

// look reads the state of the log, seen from the position after. It creates the
// log if there is none.
func (fo *follow) look(ctx context.Context, w *link, after broker.ID) (*view, error) {
	names := []string{entry.Live}
	for range maxLooks {
		keys := make([]string, 1, 1+len(names))
		keys[0] = fo.log.keys.meta
		for _, name := range names {
			keys = append(keys, fo.log.keys.stream(name))
		}
		reply, err := lookScript.Run(ctx, w.conn, keys, "("+after.String()).Slice()
		if err != nil {
			return nil, w.reason(fmt.Errorf("reading the state of the log: %w", err))
		}
		if len(reply) != 1+len(names) {
			return nil, errAnswer
		}
		fields, _ := reply[0].([]any)
		if len(fields) == 0 {
			if err := fo.log.create(ctx); err != nil {
				return nil, fmt.Errorf("creating the log: %w", err)
			}
			continue
		}
		meta := make(map[string]string, len(fields)/2)
		for i := 1; i < len(fields); i += 2 {
			meta[fmt.Sprint(fields[i-1])] = fmt.Sprint(fields[i])
		}
		v, err := parseMeta(meta)
		if err != nil {
			return nil, err
		}
		firsts := make(map[string]string, len(names))
		for i, name := range names {
			firsts[name], _ = reply[1+i].(string)
		}
		if v.seen(firsts) {
			return v, nil
		}
		names = v.names()
	}
	return nil, errors.New("the log gets new streams faster than they can be read")
}

// parseMeta reads the meta hash.
func parseMeta(meta map[string]string) (*view, error) {
	if f := meta["format"]; f != "1" {
		return nil, fmt.Errorf("the log in Redis is of format %q, this node knows format 1: use another prefix, or a newer version", f)
	}
	v := &view{of: lineage{meta["log"], meta["valueless"]}, streams: []viewed{{name: entry.Live}}}
	var ok bool
	if v.born, ok = entry.ParseID(meta["born"]); !ok || v.of.log == "" {
		return nil, errMeta
	}
	if v.last, ok = entry.ParsePoint(meta["last"]); !ok {
		return nil, errMeta
	}
	if mixed := meta["mixed"]; mixed != "" {
		if v.mixed, ok = entry.ParseID(mixed); !ok {
			return nil, errMeta
		}
	}
	for field, value := range meta {
		name, is := strings.CutPrefix(field, "s:")
		if !is {
			continue
		}
		last, ok := entry.ParsePoint(value)
		if !ok {
			return nil, errMeta
		}
		if name == entry.Live {
			v.streams[0].last = last
			continue
		}
		v.streams = append(v.streams, viewed{name: name, last: last})
	}
	return v, nil
}

var errMeta = errors.New("the log in Redis is damaged: its meta hash has values that cannot be read")

func (v *view) names() []string {
	names := make([]string, len(v.streams))
	for i := range v.streams {
		names[i] = v.streams[i].name
	}
	return names
}

// seen sets before of each stream. firsts has the field m of the first entry of
// each above the position, "" if there is none. It returns false if these are not
// the streams of v.
func (v *view) seen(firsts map[string]string) bool {
	if len(firsts) != len(v.streams) {
		return false
	}
	for i := range v.streams {
		s := &v.streams[i]
		first, ok := firsts[s.name]
		if !ok {
			return false
		}
		if s.before = s.last; first != "" {
			// If it cannot be read, the tail fails when it reads this entry.
			_, s.before, _ = entry.ParseChain(first)
		}
	}
	return true
}

// floor is the newest position below all entries of the log.
func (v *view) floor() broker.ID {
	floor := v.last.ID
	for i := range v.streams {
		if before := v.streams[i].before.ID; floor.After(before) {
			floor = before
		}
	}
	if v.born.After(floor) {
		return v.born
	}
	return floor
}

//go:embed look.lua
var lookSource string

//go:embed load.lua
var loadSource string

var (
	lookScript = redis.NewScript(lookSource)
	loadScript = redis.NewScript(loadSource)
)

// loadStep is how many values are read at once, approximately.
const loadStep = 100

// states reads all values. Of those that change meanwhile it returns the old or
// the new one.
func (fo *follow) states(ctx context.Context, w *link) ([]broker.Entry, error) {
	keys := []string{fo.log.keys.state, fo.log.keys.value}
	byName := map[string]int{}
	var entries []broker.Entry
	for cursor := "0"; ; {
		reply, err := loadScript.Run(ctx, w.conn, keys, cursor, loadStep).Slice()
		if err != nil {
			return nil, w.reason(fmt.Errorf("loading the values: %w", err))
		}
		var part []any
		if len(reply) == 2 {
			cursor, _ = reply[0].(string)
			part, _ = reply[1].([]any)
		}
		if cursor == "" || len(part)%3 != 0 {
			return nil, errAnswer
		}
		for ; len(part) > 0; part = part[3:] {
			channel, _ := part[0].(string)
			text, _ := part[1].(string)
			value, _ := part[2].(string)
			r, ok := entry.ParseRow(text)
			if !ok {
				return nil, fmt.Errorf("the row of the value of %q cannot be read", channel)
			}
			e := broker.Entry{
				ID: r.Version, Version: broker.EntryVersion, Kind: broker.KindState, Channel: channel,
				State: &broker.StateEntry{Value: []byte(value), Session: r.Session},
			}
			if i, known := byName[channel]; known {
				if e.ID.After(entries[i].ID) {
					entries[i] = e
				}
				continue
			}
			byName[channel] = len(entries)
			entries = append(entries, e)
		}
		if cursor == "0" {
			return entries, nil
		}
	}
}
