package redisadapter

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/resp"
)

// oneEntry is what XRANGE answers with one entry.
const oneEntry = "*1\r\n*2\r\n$3\r\n5-1\r\n*4\r\n$1\r\nm\r\n$8\r\nw 4-0 v\n\r\n$1\r\ne\r\n$4\r\n\r\n$9\r\n"

func TestPagesAreTakenApart(t *testing.T) {
	t.Parallel()
	got, err := readEntries(resp.NewReply(oneEntry), nil)
	want := point{broker.ID{Ms: 5, N: 1}, digestWord("w")}
	before := point{broker.ID{Ms: 4}, digestWord("v\n")}
	if err != nil || len(got) != 1 || got[0].point != want || got[0].before != before || got[0].body != "\r\n$9" {
		t.Errorf("%+v, %v", got, err)
	}
	if none, err := readEntries(resp.NewReply("*-1\r\n"), nil); len(none) != 0 || err != nil {
		t.Errorf("of nothing: %v, %v", none, err)
	}
	_, err = readEntries(resp.NewReply("-MOVED 1 host:1\r\n"), nil)
	var refused redis.Error
	if !errors.As(err, &refused) || refused.Error() != "MOVED 1 host:1" {
		t.Errorf("of an error: %v", err)
	}
	for name, text := range map[string]string{
		"another's entry":  "*1\r\n*2\r\n$3\r\n5-1\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n",
		"no link":          "*1\r\n*2\r\n$3\r\n5-1\r\n*2\r\n$1\r\ne\r\n$1\r\nb\r\n",
		"a damaged link":   strings.Replace(oneEntry, "w 4-0 v", "w 4-a v", 1),
		"a damaged id":     strings.Replace(oneEntry, "5-1", "5+1", 1),
		"a truncated page": oneEntry[:len(oneEntry)-4],
	} {
		if got, err := readEntries(resp.NewReply(text), nil); err == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestIDsAndWordsAreRead(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]broker.ID{
		"0-0": {}, "18446744073709551615-18446744073709551615": {Ms: 1<<64 - 1, N: 1<<64 - 1}, "12-3": {Ms: 12, N: 3},
	} {
		if id, ok := parseID(text); !ok || id != want {
			t.Errorf("%s: %s, %v", text, id, ok)
		}
	}
	for _, text := range []string{"", "-", "1-", "-1", "18446744073709551616-0", "1-1-1", "a-1", "1 1"} {
		if id, ok := parseID(text); ok {
			t.Errorf("%q is %s", text, id)
		}
	}
	if p, ok := parsePoint("0-0 -"); !ok || p != (point{}) {
		t.Errorf("of nothing before: %v, %v", p, ok)
	}
	for name, want := range map[string]broker.Policy{
		live:                   {},
		"1000-3600000-1048576": {Events: 1000, Age: time.Hour, Bytes: 1 << 20},
		"5-0-7":                {Events: 5, Bytes: 7},
	} {
		if p, ok := policyOf(name); !ok || p != want {
			t.Errorf("%s: %+v, %v", name, p, ok)
		}
	}
	for _, name := range []string{"", "1-2", "1-2-3-4", "-1-2-3", "1-a-3", "01-2-3", "0-1-2"} {
		if p, ok := policyOf(name); ok {
			t.Errorf("%q is %+v", name, p)
		}
	}
}

// FuzzEntries: whatever a server sends instead of entries is an error.
func FuzzEntries(f *testing.F) {
	f.Add(oneEntry)
	f.Add("*2\r\n*0\r\n$-1\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		entries, err := readEntries(resp.NewReply(text), nil)
		for i := range entries {
			if err == nil && (entries[i].nonce == 0 || entries[i].body == "") {
				t.Fatalf("an entry without a link or a body: %+v", entries[i])
			}
		}
	})
}
