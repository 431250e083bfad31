package entry

import (
	"errors"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/resp"
)

// oneEntry is what XRANGE answers with one entry.
const oneEntry = "*1\r\n*2\r\n$3\r\n5-1\r\n*4\r\n$1\r\nm\r\n$8\r\nw 4-0 v\n\r\n$1\r\ne\r\n$4\r\n\r\n$9\r\n"

func TestPagesAreTakenApart(t *testing.T) {
	t.Parallel()
	got, err := Read(resp.NewReply(oneEntry), nil)
	want := Point{broker.ID{Ms: 5, N: 1}, digestWord("w")}
	before := Point{broker.ID{Ms: 4}, digestWord("v\n")}
	if err != nil || len(got) != 1 || got[0].Point != want || got[0].Before != before || got[0].Body != "\r\n$9" {
		t.Errorf("%+v, %v", got, err)
	}
	if none, err := Read(resp.NewReply("*-1\r\n"), nil); len(none) != 0 || err != nil {
		t.Errorf("of nothing: %v, %v", none, err)
	}
	_, err = Read(resp.NewReply("-MOVED 1 host:1\r\n"), nil)
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
		if got, err := Read(resp.NewReply(text), nil); err == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestIDsAndWordsAreRead(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]broker.ID{
		"0-0": {}, "18446744073709551615-18446744073709551615": {Ms: 1<<64 - 1, N: 1<<64 - 1}, "12-3": {Ms: 12, N: 3},
	} {
		if id, ok := ParseID(text); !ok || id != want {
			t.Errorf("%s: %s, %v", text, id, ok)
		}
	}
	for _, text := range []string{"", "-", "1-", "-1", "18446744073709551616-0", "1-1-1", "a-1", "1 1"} {
		if id, ok := ParseID(text); ok {
			t.Errorf("%q is %s", text, id)
		}
	}
	if p, ok := ParsePoint("0-0 -"); !ok || p != (Point{}) {
		t.Errorf("of nothing before: %v, %v", p, ok)
	}
}

// FuzzEntries: whatever a server sends instead of entries is an error.
func FuzzEntries(f *testing.F) {
	f.Add(oneEntry)
	f.Add("*2\r\n*0\r\n$-1\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		entries, err := Read(resp.NewReply(text), nil)
		for i := range entries {
			if err == nil && (entries[i].Nonce == 0 || entries[i].Body == "") {
				t.Fatalf("an entry without a link or a body: %+v", entries[i])
			}
		}
	})
}
