package redistest

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"testing"

	"github.com/redis/go-redis/v9"
)

func TestServerWithTLSSpeaksNothingElse(t *testing.T) {
	t.Parallel()
	s := Start(t, TLS(), Password("secret"))
	set(t, s.Client(), "a", "1")

	plain := s.Options()
	plain.TLSConfig = nil
	if err := connect(t, plain).Ping(t.Context()).Err(); err == nil {
		t.Error("it answers without TLS")
	}
	stranger := s.Options()
	stranger.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	var unknown x509.UnknownAuthorityError
	if err := connect(t, stranger).Ping(t.Context()).Err(); !errors.As(err, &unknown) {
		t.Errorf("to who does not know the authority: %v", err)
	}

	// The file, and an address as users write it.
	text, err := os.ReadFile(s.CAFile())
	if err != nil {
		t.Fatal(err)
	}
	byURL, err := redis.ParseURL("rediss://:secret@" + s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	byURL.TLSConfig.RootCAs = x509.NewCertPool()
	byURL.TLSConfig.RootCAs.AppendCertsFromPEM(text)
	wantValue(t, connect(t, byURL), "a", "1")
}

func TestReplicasFollowOverTLS(t *testing.T) {
	t.Parallel()
	r := StartReplicated(t, 1, TLS())
	set(t, r.Primary().Client(), "a", "1")
	r.AwaitSynced()
	wantValue(t, r.Replicas()[0].Client(), "a", "1")
}

func TestWithoutTLSThereIsNoConfigurationOfIt(t *testing.T) {
	t.Parallel()
	if s := Start(t); s.TLSConfig() != nil {
		t.Error("there is one")
	}
}
