package doctor

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestATokenThatIsNotSentIsNotAskedFor: who has given a token is told why it was of no use.
func TestATokenThatIsNotSentIsNotAskedFor(t *testing.T) {
	refusing := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write([]byte(`{"type":"urn:evstream:problem:unauthorized","detail":"no credentials","status":401}`))
	})
	s := httptest.NewTLSServer(refusing)
	t.Cleanup(s.Close)
	plain := httptest.NewServer(refusing)
	t.Cleanup(plain.Close)
	moved := httptest.NewServer(http.RedirectHandler(strings.Replace(plain.URL, "127.0.0.1", "localhost", 1)+"/live/", http.StatusFound))
	t.Cleanup(moved.Close)
	for url, want := range map[string]string{
		s.URL:     "the certificate is not trusted: ",
		moved.URL: "redirects to localhost:",
		plain.URL: "the token is not accepted",
	} {
		_, err := examined(t, Config{URL: url + "/live/", Token: "secret"})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "goes into EVSTREAM_TOKEN") {
			t.Errorf("%s: %v, want that %s", url, err, want)
		}
	}
}
