package evstream

import (
	"fmt"
	"strings"
	"testing"
)

// A subscriber that asks for history is told whether it gets all of it.
func TestTheOpeningSaysWhetherTheHistoryIsComplete(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, withRules("anyone subscribe,publish **"), func(c *siteConfig) {
			c.broker.Channels = []ChannelConfig{{Pattern: "short/**", History: &History{Events: 3}}}
		})
		var ids []string
		for i := range 5 {
			ids = append(ids, mustPost(t, e, "/live/short/a", fmt.Sprint(i+1)))
		}
		mustPost(t, e, "/live/short/b", "1")
		mustPost(t, e, "/live/match.7", "1")
		incomplete := fmt.Sprintf(`"complete":false,"oldest":%q}`, ids[2])
		for query, want := range map[string]string{
			"/live/short/a?since=earliest":                         incomplete,
			"/live/short/a?since=1h":                               incomplete,
			"/live/short/a?last=4":                                 incomplete,
			"/live/short/a?last=3":                                 `"complete":true}`,
			"/live/short/a?last=4&event=other":                     incomplete,
			"/live/?channel=short/*&since=earliest":                incomplete,
			"/live/?channel=short/a&channel=match.7&last=4":        incomplete,
			"/live/short/b?since=earliest":                         `"complete":true}`,
			"/live/match.7?since=earliest":                         `"complete":true}`,
			"/live/match.7?last=10":                                `"complete":true}`,
			"/live/match.7?since=1h":                               `"complete":true}`,
			"/live/unused?since=earliest":                          `"complete":true}`,
			"/live/short/a":                                        `}`,
			"/live/short/a?last=0":                                 `}`,
			"/live/short/a?since=earliest&last_event_id=" + ids[0]: `}`,
			"/live/short/a?last_event_id=1-1":                      `}`,
		} {
			s := openStream(t, e, query)
			got := s.opening()
			if want == "}" && strings.Contains(got, `"complete"`) || !strings.HasSuffix(got, want+"\n") {
				t.Errorf("%s opens with %q, want …%s", query, got, want)
			}
		}
		body := bodyOf(t, ask(t, e, asBackend("GET", "/live/short/a?poll=1&since=earliest", "", asJSON)))
		if !strings.Contains(body, incomplete) {
			t.Errorf("a poll is answered %s, want …%s", body, incomplete)
		}
		body = bodyOf(t, ask(t, e, asBackend("GET", "/live/short/a?poll=1&last_event_id="+ids[3], "", asJSON)))
		if strings.Contains(body, `"complete"`) {
			t.Errorf("a poll with a cursor is answered %s", body)
		}
	})
}
