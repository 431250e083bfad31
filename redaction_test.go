package evstream

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/internal/authtest"
)

// A secret in the query is in Caddy's access log, and in the Referer of what
// the page loads. What defends is the filter that the documents show: without
// it the log has both. Other places for secrets Caddy hides itself.
func TestTheDocumentedFilterKeepsSecretsOutOfTheLog(t *testing.T) {
	for _, page := range []string{"docs/operations.md"} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		_, after, ok := strings.Cut(string(text), "\t\tformat filter {\n")
		filter, _, closed := strings.Cut(after, "\n\t}\n}\n```")
		if !ok || !closed {
			t.Fatalf("%s shows no filter", page)
		}
		for name, with := range map[string]string{"with it": "\t\tformat filter {\n" + filter, "without it": ""} {
			t.Run(page+" "+name, func(t *testing.T) {
				address, file := freeAddress(t), filepath.Join(t.TempDir(), "access.log")
				load(t, options("")+"http://"+address+" {\n\tlog {\n\t\toutput file "+file+"\n"+with+"\n\t}\n\tevstream /live/* {\n"+
					"\t\tjwt {\n\t\t\tkey \""+authtest.Secret+"\"\n\t\t}\n\t\tcookie session\n\t\tinsecure_query_token\n\t\ttickets\n\t\tallow anyone subscribe **\n\t}\n}\n")
				url := "http://" + address + "/live/a?info&x=harmless"
				for _, ask := range []func(*http.Request){
					func(r *http.Request) { r.URL.RawQuery += "&ticket=in-the-query" },
					func(r *http.Request) { r.URL.RawQuery += "&token=in-the-query" },
					header("Referer", "http://"+address+"/page?token=in-the-referer&ticket=in-the-referer"),
					header("Authorization", "Bearer in-the-header"),
					header("Cookie", "session=in-the-cookie"),
				} {
					send(t, "GET", url, "", ask, header("Accept", "application/json"))
				}
				var log string
				eventually(t, "five lines of log", func() bool {
					data, err := os.ReadFile(file)
					log = string(data)
					return err == nil && strings.Count(log, "x=harmless") == 5 && strings.HasSuffix(log, "\n")
				})
				for _, secret := range []string{"in-the-query", "in-the-referer"} {
					if strings.Contains(log, secret) != (with == "") {
						t.Errorf("%s: %s", secret, log)
					}
				}
				for _, secret := range []string{"in-the-header", "in-the-cookie"} {
					if strings.Contains(log, secret) {
						t.Errorf("%s: %s", secret, log)
					}
				}
			})
		}
	}
}
