package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// hereScript is a page that reads user-count, and binds a value to its session: over which
// protocol it came.
const hereScript = "<script>" +
	"const source = new EventSource('/live/?channel=user-count');" +
	"source.addEventListener('evstream.open', (e) => fetch('/live/' + location.search.slice(1) + '?session=' + JSON.parse(e.data).session, " +
	"{method: 'PUT', body: JSON.stringify(performance.getEntriesByType('navigation')[0].nextHopProtocol)}));" +
	"</script>"

// A Chromium whose processes are killed is counted down over each version of HTTP: by the
// application of docs/hooks.md, and by a value that is bound to its session.
func TestAKilledBrowserIsCountedDown(t *testing.T) {
	const example = "../examples/hooks/"
	t.Setenv("EVSTREAM_HOOK_SECRET", secret)
	site, secure, admin, app := free(t), free(t), free(t), free(t)
	cert, key, spki := selfSigned(t)
	runApp(t, example, "killed-app.mjs", "PORT="+strings.TrimPrefix(app, "localhost:"), "EVSTREAM_ADMIN=http://"+admin)
	eventually(t, "the application to listen", func() bool { return answers(app) })
	file, err := os.ReadFile(example + "Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	edited := strings.NewReplacer(
		"localhost:3000", app,
		"{\n\tevstream {", "{\n\tadmin "+admin+"\n\tpersist_config off\n\tauto_https disable_redirects\n\tevstream {",
		"http://localhost:8080 {", "(site) {\n\theader /page Content-Type text/html\n\trespond /page `"+hereScript+"`",
		"subscribe user-count", "subscribe user-count\n\t\tallow anyone state here.*",
	).Replace(string(file)) + fmt.Sprintf("http://%s {\n\timport site\n}\nhttps://%s {\n\ttls %s %s\n\timport site\n}\n", site, secure, cert, key)
	runCaddy(t, edited, site)

	value := func(channel string) (v any) {
		r, err := http.NewRequest(http.MethodGet, "http://"+admin+"/evstream/"+channel, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept", "application/json")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return nil
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK || json.NewDecoder(resp.Body).Decode(&v) != nil {
			return nil
		}
		return v
	}
	browsers := []struct {
		channel, protocol, url string
		flags                  []string
		kill                   func()
	}{
		{channel: "here.h1", protocol: "http/1.1", url: "http://" + site},
		{channel: "here.h2", protocol: "h2", url: "https://" + secure, flags: []string{"--disable-quic", "--ignore-certificate-errors-spki-list=" + spki}},
		{channel: "here.h3", protocol: "h3", url: "https://" + secure, flags: []string{"--enable-quic", "--origin-to-force-quic-on=" + secure, "--ignore-certificate-errors-spki-list=" + spki}},
	}
	for i := range browsers {
		b := &browsers[i]
		b.kill = startChromium(t, b.url+"/page?"+b.channel, b.flags...)
		eventually(t, b.channel, func() bool { return value(b.channel) == b.protocol })
	}
	eventually(t, "three to be counted", func() bool { return value("user-count") == 3.0 })
	for i := range browsers {
		b := &browsers[i]
		b.kill()
		killed, want := time.Now(), float64(len(browsers)-1-i)
		// Over HTTP/3 nothing tells of a process that has died: its connection is idle for 30 s.
		err := until(t.Context(), time.Minute, "the browser over "+b.protocol+" to be counted down", func() bool {
			return value("user-count") == want && value(b.channel) == nil
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("over %s it is counted down after %s", b.protocol, time.Since(killed).Round(10*time.Millisecond))
	}
}

// startChromium opens a page in a Chromium of its own, and returns what kills all its
// processes.
func startChromium(t *testing.T, page string, flags ...string) (kill func()) {
	t.Helper()
	cmd, err := chromium(context.Background(), t.TempDir(), page)
	if err != nil {
		t.Fatal(err)
	}
	last := len(cmd.Args) - 1
	cmd.Args = append(append(cmd.Args[:last:last], flags...), page)
	return startGroup(t, cmd)
}

// startGroup starts a program, and returns what kills its group of processes.
func startGroup(t *testing.T, cmd *exec.Cmd) (kill func()) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = sync.OnceFunc(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
	t.Cleanup(kill)
	return kill
}

// selfSigned makes a certificate of localhost. Chromium takes it if it is told the hash of
// its key, over HTTP/3, too.
func selfSigned(t *testing.T) (certificate, key, spki string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certificate, key = filepath.Join(dir, "certificate.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{certificate: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	hash := sha256.Sum256(public)
	return certificate, key, base64.StdEncoding.EncodeToString(hash[:])
}
