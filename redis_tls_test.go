package evstream

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/internal/redistest"
)

// authority signs certificates.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.issue("ca", &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

// issue writes name.pem and name.key.
func (a *authority) issue(name string, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.Subject = pkix.Name{CommonName: name}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for suffix, block := range map[string]*pem.Block{".pem": {Type: "CERTIFICATE", Bytes: der}, ".key": {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(a.file(name+suffix), pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

func TestRedisBehindTLS(t *testing.T) {
	a := newAuthority(t)
	a.issue("server", &x509.Certificate{DNSNames: []string{"redis.test"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	a.issue("client", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	encrypted := freeAddress(t)
	_, port, _ := strings.Cut(encrypted, ":")
	server := redistest.Start(t, redistest.Config("tls-port "+port, "tls-auth-clients yes",
		"tls-ca-cert-file "+a.file("ca.pem"), "tls-cert-file "+a.file("server.pem"), "tls-key-file "+a.file("server.key")))

	n := newPair(t)
	whole := "\t\t\t\tca " + a.file("ca.pem") + "\n\t\t\t\tcertificate " + a.file("client.pem") + " " + a.file("client.key") + "\n\t\t\t\tserver_name redis.test\n"
	config := func(lines string) string {
		return pairOf(n.address, sharedBy(server.Addr(), ""),
			"\t\tadapter redis rediss://"+encrypted+" {\n\t\t\tprefix shared\n\t\t\ttls {\n"+lines+"\t\t\t}\n\t\t}\n", "")
	}
	withoutLine := func(word string) string {
		var kept strings.Builder
		for line := range strings.Lines(whole) {
			if !strings.Contains(line, word+" ") {
				kept.WriteString(line)
			}
		}
		return kept.String()
	}
	load(t, config(withoutLine("ca")))
	b := theHub(t, "b")
	for _, lacks := range []string{"ca", "certificate", "server_name"} {
		if err := reload(t, config(withoutLine(lacks))); err != nil {
			t.Fatal(err)
		}
		answer, body := n.ask("POST", n.b+"x", "1")
		if answer.StatusCode != 503 {
			t.Errorf("without %s: %d %s", lacks, answer.StatusCode, body)
		}
	}
	if err := reload(t, config(whole)); err != nil {
		t.Fatal(err)
	}
	n.awaitLoaded()
	if theHub(t, "b") != b {
		t.Error("the hub is another one")
	}
	reader := subscribe(t, n.a+"x")
	mustPublish(t, n.b+"x", "encrypted")
	reader.expect("encrypted")

	// A certificate that is exchanged needs no reload.
	a.issue("client", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}) // not for a client
	n.kill(server)
	eventually(t, "the certificate to be refused", func() bool { _, stale := theHub(t, "b").Broker().Stale(); return stale })
	a.issue("client", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	n.awaitLoaded()
	mustPublish(t, n.b+"x", "again")
	reader.expect("again")
}
